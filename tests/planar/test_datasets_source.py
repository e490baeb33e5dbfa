"""Images from any source, and at a lower resolution."""

import gzip
import struct

import numpy as np
import pytest

from planar.datasets import ImageData, load_digits
from planar.datasets.source import load_images, load_parts, shrink

EPS = float(np.finfo(np.float32).eps)


def data_of(images):
    return ImageData(np.asarray(images, np.float32), np.zeros(len(images), int), ("one",))


def random_images(size, count=3, channels=2):
    return np.random.default_rng(size).random((count, size, size, channels), dtype=np.float32)


# ------------------------------------------------------------------------------------ shrinking


def test_whole_blocks_are_averaged():
    images = random_images(6)
    expected = images.astype(np.float64).reshape(3, 2, 3, 2, 3, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(data_of(images), 2).images, expected, rtol=16 * EPS)  # sums of nine terms


def test_pixels_on_an_edge_are_shared():
    """Three pixels become two: each new one is one and a half old ones wide."""
    images = np.arange(9).reshape(1, 3, 3, 1) / 8
    rows = (images[:, [0, 2]] * 2 + images[:, [1, 1]]) / 3
    expected = (rows[:, :, [0, 2]] * 2 + rows[:, :, [1, 1]]) / 3
    np.testing.assert_allclose(shrink(data_of(images), 2).images, expected, rtol=8 * EPS)


@pytest.mark.parametrize(("size", "pixels"), [(28, 16), (9, 4), (8, 7), (5, 1)])
def test_shrinking_commutes_with_quarter_turns_and_reflections(size, pixels):
    images = random_images(size)
    small = shrink(data_of(images), pixels).images
    assert small.shape == (3, pixels, pixels, 2)
    turned = shrink(data_of(np.rot90(images, axes=(1, 2))), pixels).images
    mirrored = shrink(data_of(images[:, :, ::-1]), pixels).images
    for found, expected in ((turned, np.rot90(small, axes=(1, 2))), (mirrored, small[:, :, ::-1])):
        np.testing.assert_allclose(found, expected, atol=2 * size * EPS)  # values of at most 1, 2 n sums
    means = [part.astype(np.float64).mean(axis=(1, 2)) for part in (images, small)]
    np.testing.assert_allclose(*means, atol=2 * size * EPS)


def test_white_stays_in_range_and_the_size_itself_changes_nothing():
    assert shrink(data_of(np.ones((1, 7, 7, 1))), 3).images.max() <= 1
    data = data_of(random_images(4))
    assert shrink(data, 4) is data


@pytest.mark.parametrize(
    ("shape", "pixels", "message"),
    [
        ((1, 4, 5, 1), 2, "expected square images, got 4 x 5"),
        ((1, 4, 4, 1), 5, "expected at most the 4 pixels that the images have, got 5"),
        ((1, 4, 4, 1), 0, "expected pixels to be an integer >= 1, got 0"),
    ],
)
def test_shrink_errors(shape, pixels, message):
    with pytest.raises(ValueError, match=message):
        shrink(data_of(np.zeros(shape)), pixels)


# ------------------------------------------------------------------------------------ sources


def test_digits_are_the_default():
    assert load_images().images.shape == (1797, 8, 8, 1)
    expected = load_digits().images.reshape(1797, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(load_images(pixels=4).images, expected, atol=4 * EPS)


def test_npz(tmp_path):
    images = random_images(4)
    np.savez(tmp_path / "tiles.npz", images=images, labels=[0, 1, 0])
    found = load_images(tmp_path / "tiles.npz")
    np.testing.assert_array_equal(found.images, images)
    assert load_images(tmp_path / "tiles.npz", 2).images.shape == (3, 2, 2, 2)
    assert load_parts(tmp_path / "tiles.npz")[1] is None


@pytest.mark.parametrize(("dash", "suffix"), [("-", ""), ("-", ".gz"), (".", "")])
def test_folder_of_mnist(tmp_path, dash, suffix):
    images = np.random.default_rng(0).integers(256, size=(5, 6, 6), dtype=np.uint8)
    write = gzip.compress if suffix else bytes
    header = struct.pack(">4I", 0x803, 5, 6, 6)
    (tmp_path / f"train-images{dash}idx3-ubyte{suffix}").write_bytes(write(header + images.tobytes()))
    with pytest.raises(FileNotFoundError, match=r"expected a file train-labels"):
        load_images(tmp_path)
    labels = struct.pack(">2I5B", 0x801, 5, 3, 1, 4, 1, 5)
    (tmp_path / f"train-labels{dash}idx1-ubyte{suffix}").write_bytes(write(labels))
    found = load_images(tmp_path)
    np.testing.assert_array_equal(found.images[..., 0] * np.float32(255), images)
    assert found.labels.tolist() == [3, 1, 4, 1, 5]


@pytest.mark.parametrize(
    "names", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"]
)
def test_npz_of_two_parts(tmp_path, names):
    """Keras' MNIST, and MedMNIST, whose labels are a column and which has a third part."""
    images, labels = (random_images(4, 5) * 255).astype(np.uint8), np.array([[2], [0], [1], [0], [2]], np.uint8)
    parts = images[:3], labels[:3], images[3:], labels[3:]
    file = tmp_path / "parts.npz"
    np.savez(file, **dict(zip(names.split(), parts, strict=True)), val_images=images, val_labels=labels)
    train, test = load_parts(file)
    assert test is not None
    for part, rows in ((train, slice(3)), (test, slice(3, 5))):
        np.testing.assert_array_equal(part.images, images[rows] / np.float32(255))
        assert part.labels.tolist() == labels[rows, 0].tolist()
    validation = load_images(file, 2, images="val_images", labels="val_labels")
    np.testing.assert_array_equal(validation.images, shrink(data_of(images / np.float32(255)), 2).images)
    assert load_images(file).labels.tolist() == [2, 0, 1]


def test_idx_files_by_name(tmp_path):
    """The test part of MNIST's folder, and both parts."""
    images = np.random.default_rng(0).integers(256, size=(5, 6, 6), dtype=np.uint8)
    for name, rows, labels in (("train", images[:3], (3, 1, 4)), ("t10k", images[3:], (1, 5))):
        header = struct.pack(">4I", 0x803, len(rows), 6, 6)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + rows.tobytes())
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(rows)) + bytes(labels))
    train, test = load_parts(tmp_path)
    assert test is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([3, 1, 4], [1, 5])
    names = {"images": "t10k-images-idx3-ubyte", "labels": "t10k-labels-idx1-ubyte"}
    files = {key: tmp_path / name for key, name in names.items()}
    for found in (test, load_images(tmp_path, **names), load_images(**files)):
        np.testing.assert_array_equal(found.images[..., 0] * np.float32(255), images[3:])
        assert found.labels.tolist() == [1, 5]


def test_folder_of_tiles(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name, value in (("dark", 10), ("bright", 240)):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.full((6, 6, 3), value + number, np.uint8)
            image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    assert load_images(tmp_path).images.shape == (6, 6, 6, 3)
    found = load_images(tmp_path, 2, per_class=2)
    assert found.images.shape == (4, 2, 2, 3)
    assert found.classes == ("bright", "dark")


def test_errors(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"expected an npz file or a folder, got .*notes\.txt"):
        load_images(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent"):
        load_images(tmp_path / "absent")
    with pytest.raises(ValueError, match="per_class is for a folder of tiles"):
        load_images(per_class=3)
    with pytest.raises(ValueError, match="expected both images= and labels="):
        load_images(images="x_test")
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"torn\.npz is no readable npz archive"):
        load_parts(tmp_path / "torn.npz")
    np.savez(tmp_path / "several.npz", train_images=random_images(4), train_labels=np.zeros((3, 14), int))
    with pytest.raises(ValueError, match=r"got int64 \(3, 14\)\. Images with several labels each"):
        load_parts(tmp_path / "several.npz")
