"""NumPy archives of images: names, scaling, labels, and what is refused."""

import numpy as np
import pytest

from planar.datasets import load_npz

RNG = np.random.default_rng(0)
BYTES = RNG.integers(256, size=(6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1, 0, 2], np.uint8)


def load(folder, *names, **arrays):
    path = folder / "data.npz"
    np.savez_compressed(path, **arrays)
    return load_npz(path, *names)


@pytest.mark.parametrize("names", [
    ("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("X", "y"), ("x", "y"),
])  # fmt: skip
def test_usual_names(tmp_path, names):
    data = load(tmp_path, **dict(zip(names, (BYTES, LABELS), strict=True)))
    assert data.images.dtype == np.float32
    np.testing.assert_array_equal(data.images, BYTES.astype(np.float32) / 255)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.classes == ("0", "1", "2")


def test_the_layout_of_mnist(tmp_path):
    parts = {"x_train": BYTES[..., 0], "y_train": LABELS, "x_test": BYTES[:2, ..., 1], "y_test": LABELS[:2]}
    data = load(tmp_path, **parts)
    np.testing.assert_array_equal(data.images[..., 0], BYTES[..., 0] / np.float32(255))
    assert data.images.shape == (6, 5, 4, 1)
    test = load(tmp_path, "x_test", "y_test", **parts)
    np.testing.assert_array_equal(test.images[..., 0], BYTES[:2, ..., 1] / np.float32(255))
    np.testing.assert_array_equal(test.labels, [2, 0])  # although no label is 1: the numbers are those of training


@pytest.mark.parametrize("name", ["classes", "class_names", "label_names"])
def test_the_layout_of_tissue_tiles(tmp_path, name):
    data = load(tmp_path, x=BYTES, y=LABELS, **{name: np.array(["AC", "H", "S", "T"])})
    assert data.classes == ("AC", "H", "S", "T")
    np.testing.assert_array_equal(data.labels, LABELS)


def test_text_labels(tmp_path):
    text = np.array(["dog", "ape", "cat", "cat", "ape", "dog"])
    data = load(tmp_path, images=BYTES, labels=text)
    assert data.classes == ("ape", "cat", "dog")
    np.testing.assert_array_equal(data.labels, LABELS)
    ordered = load(tmp_path, images=BYTES, labels=text, classes=np.array(["dog", "cow", "cat", "ape"]))
    assert ordered.classes == ("dog", "cow", "cat", "ape")
    assert ordered.labels.tolist() == [0, 3, 2, 2, 3, 0]


def test_floats_are_kept(tmp_path):
    images = RNG.random((6, 5, 4))
    data = load(tmp_path, images=images, labels=LABELS[:, None])
    np.testing.assert_array_equal(data.images[..., 0], images.astype(np.float32))
    np.testing.assert_array_equal(data.labels, LABELS)
    single = load(tmp_path, images=images.astype(np.float32), labels=LABELS)
    np.testing.assert_array_equal(single.images, data.images)


def test_other_byte_orders_and_half_precision(tmp_path):
    images = RNG.random((6, 5, 4, 1))
    for dtype in (">f8", ">f4", "f2", ">f2"):
        data = load(tmp_path, images=images.astype(dtype), labels=LABELS.astype(">i4"))
        np.testing.assert_array_equal(data.images, images.astype(dtype).astype(np.float32))
        assert data.images.dtype.isnative
        assert data.labels.dtype.isnative
        np.testing.assert_array_equal(data.labels, LABELS)


def test_an_array_without_a_name(tmp_path):
    np.save(tmp_path / "x.npy", BYTES)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(
        ValueError, match=r"x\.npz is no readable npz archive.*it is one array, an npy file; np\.savez writes"
    ):
        load_npz(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=BYTES, labels=LABELS)
    assert len(load_npz(tmp_path / "x.npz")) == 6


def spoiled(value):
    images = np.full((6, 5, 4), 0.5)
    images[3, 1, 2] = value
    return images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": BYTES.reshape(6, -1)}, r"\(n, H, W\) or \(n, H, W, C\), got the shape \(6, 60\).*reshape"),
        ({"images": BYTES[:, :0]}, r"got the shape \(6, 0, 4, 3\)"),
        ({"images": BYTES[:, :3, :, [0] * 8]}, r"\(6, 3, 4, 8\) looks like channels first.*transpose\(0, 2, 3, 1\)"),
        ({"images": BYTES.astype(np.int64)}, r"uint8 \(0 to 255\) or as floats in \[0, 1\], got int64"),
        ({"images": BYTES > 4}, "got bool"),
        ({"images": BYTES.astype(float)}, r"in \[0, 1\], but image 0 .* holds"),
        ({"images": spoiled(np.nan)}, "image 3 .* holds nan"),
        ({"images": spoiled(np.inf)}, "image 3 .* holds inf"),
        ({"images": spoiled(-1e-9)}, "image 3 .* holds -1e-09"),
        ({"images": spoiled(1 + 1e-9)}, "image 3 .* holds 1.000000001"),  # 1 in float32, but not what was meant
        ({"labels": LABELS[:5]}, r"labels \(6,\), one for each image, got uint8 \(5,\)"),
        ({"labels": np.eye(6)}, r"got float64 \(6, 6\)"),
        ({"labels": LABELS.astype(float)}, r"integers or text, got float64 \(6,\)"),
        ({"labels": LABELS.astype(int) - 1}, "label 1 .* is -1, out of range"),
        ({"labels": LABELS.astype(int) + 10**9}, "label 0 .* is 1000000002, out of range"),
        ({"classes": np.array(["a", "b"])}, "label 0 .* is 2, out of range: expected 0 to 1 for 2 classes"),
        ({"classes": np.array(["a", "b", "a"])}, r"distinct texts \(k,\)"),
        ({"classes": np.arange(3)}, r"distinct texts \(k,\), got int64 \(3,\)"),
        ({"labels": np.array(list("abcabc")), "classes": np.array(["a", "b"])}, "'c' is none of the classes a, b"),
    ],
)
def test_wrong_arrays(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"load_npz: .*data\.npz: .*{message}"):
        load(tmp_path, **({"images": BYTES, "labels": LABELS} | change))


def test_names_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"'x_train' and 'y_train' or .*; it has pictures, y\. Pass images= and"):
        load(tmp_path, pictures=BYTES, y=LABELS)
    with pytest.raises(ValueError, match="expected arrays named 'pictures' and 'labels'; it has pictures, y"):
        load(tmp_path, "pictures", "labels", pictures=BYTES, y=LABELS)
    with pytest.raises(ValueError, match="it has none"):
        load(tmp_path)
    with pytest.raises(ValueError, match="both arrays or of none"):
        load(tmp_path, "pictures", pictures=BYTES, y=LABELS)
    np.testing.assert_array_equal(load(tmp_path, "pictures", "y", pictures=BYTES, y=LABELS).labels, LABELS)


class Planted:
    """Unpickling it would leave a trace."""

    def __reduce__(self):
        return exec, ("import builtins; builtins.planted = True",)


def test_damaged_and_hostile_files(tmp_path):
    import builtins

    path = tmp_path / "data.npz"
    with pytest.raises(ValueError, match=r"load_npz: .*data\.npz .*pickled objects, which are not loaded"):
        load(tmp_path, images=BYTES, labels=np.array([Planted()] * 6, object))
    assert not hasattr(builtins, "planted")
    load(tmp_path, images=BYTES, labels=LABELS)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"some text", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"load_npz: .*data\.npz is no readable npz archive"):
            load_npz(path)
    np.save(tmp_path / "data.npy", BYTES)
    with pytest.raises(ValueError, match=r"data\.npy is no readable npz archive"):
        load_npz(tmp_path / "data.npy")
    with pytest.raises(FileNotFoundError, match="load_npz: there is no file"):
        load_npz(tmp_path / "nothing.npz")
