"""Folders of image files: formats, order, drawing, sizes, and every way in which they can be wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planar.datasets import load_folder

RNG = np.random.default_rng(0)


def colours(height=6, width=6):
    return RNG.integers(256, size=(height, width, 3), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def tree(folder, names=("b/2.tif", "b/10.png", "a/x.TIFF", "a/w.PNG", "c/only.tif")):
    return {name: save(folder / name, colours()) for name in names}


def test_classes_and_files_by_name(tmp_path):
    pixels = tree(tmp_path)
    data = load_folder(tmp_path)
    assert data.classes == ("a", "b", "c")
    assert data.labels.tolist() == [0, 0, 1, 1, 2]
    order = ["a/w.PNG", "a/x.TIFF", "b/10.png", "b/2.tif", "c/only.tif"]  # as text
    np.testing.assert_array_equal(data.images, np.stack([pixels[name] for name in order]) / np.float32(255))
    assert data.images.dtype == np.float32


def test_nothing_depends_on_the_order_of_the_file_system(tmp_path, monkeypatch):
    tree(tmp_path, [f"{c}/{k}.png" for c in "ab" for k in range(9)])
    expected = load_folder(tmp_path, per_class=4, seed=1)
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(listing(folder), reverse=True)))
    np.testing.assert_array_equal(load_folder(tmp_path, per_class=4, seed=1).images, expected.images)


def test_jpeg_and_what_is_skipped(tmp_path):
    smooth = np.full((8, 8, 3), [200, 100, 50], np.uint8)
    for name in ("a/1.jpg", "a/2.JPEG"):
        save(tmp_path / name, smooth, quality=95)
    for name in ("a/.hidden.png", "a/notes.txt", "a/Thumbs.db", "README.md", ".cache/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "a" / "masks.png").mkdir()
    data = load_folder(tmp_path)
    assert data.classes == ("a",)
    assert len(data) == 2
    np.testing.assert_allclose(data.images * 255, np.broadcast_to(smooth, (2, 8, 8, 3)), atol=3)


def test_grey_images_have_one_channel_unless_others_are_coloured(tmp_path):
    grey = save(tmp_path / "a/1.png", RNG.integers(256, size=(6, 6), dtype=np.uint8))
    black = RNG.random((6, 6)) < 0.5
    save(tmp_path / "a/2.png", black)
    data = load_folder(tmp_path)
    np.testing.assert_array_equal(data.images[..., 0] * np.float32(255), [grey, 255 * black])
    assert data.images.shape == (2, 6, 6, 1)
    colour = save(tmp_path / "b/3.png", colours())
    mixed = load_folder(tmp_path)
    np.testing.assert_array_equal(mixed.images[0], np.repeat(data.images[0], 3, axis=-1))
    np.testing.assert_array_equal(mixed.images[2], colour / np.float32(255))


def test_palettes_and_opaque_alpha(tmp_path):
    pixels = RNG.choice(np.array([[9, 8, 7], [250, 0, 3]], np.uint8), (6, 6))
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).quantize(4).save(tmp_path / "a/1.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "a/2.png")
    np.testing.assert_array_equal(load_folder(tmp_path).images, np.stack([pixels, pixels]) / np.float32(255))


def test_resizing(tmp_path):
    blocks = np.kron(colours(3, 3), np.ones((8, 8, 1), np.uint8))
    save(tmp_path / "a/1.png", blocks)
    save(tmp_path / "a/2.png", np.full((5, 9, 3), 77, np.uint8))
    data = load_folder(tmp_path, size=6)
    assert data.images.shape == (2, 6, 6, 3)
    np.testing.assert_array_equal(data.images[1], np.float32(77 / 255))
    # Averaged, not picked: one bright pixel in each 4 x 4 shows. A filter of width 4 keeps the mean inside.
    speckled = np.zeros((24, 24, 3), np.uint8)
    speckled[::4, ::4] = 240
    save(tmp_path / "a/1.png", speckled)
    assert 0.03 < load_folder(tmp_path, size=6).images[0].mean() * 255 / 240 < 0.1  # 1/16
    save(tmp_path / "a/2.png", np.zeros((24, 24, 3), np.uint8))
    np.testing.assert_array_equal(load_folder(tmp_path).images, load_folder(tmp_path, size=24).images)


def test_drawing(tmp_path):
    pixels = tree(tmp_path, [f"{c}/{k:02}.png" for c in "ab" for k in range(12)])
    names = {image.tobytes(): name for name, image in pixels.items()}

    def drawn(count, seed):
        data = load_folder(tmp_path, per_class=count, seed=seed)
        rows = [names[np.rint(image * 255).astype(np.uint8).tobytes()] for image in data.images]
        assert rows == sorted(rows)  # the order of names is kept
        assert [row[0] for row in rows] == [data.classes[label] for label in data.labels]
        return {c: {row[2:] for row in rows if row[0] == c} for c in data.classes}

    some, more, everything = (drawn(count, 0) for count in (3, 5, 12))
    assert [len(some[c]) for c in "ab"] == [3, 3]
    assert all(some[c] < more[c] < everything[c] for c in "ab")
    assert more == drawn(5, 0) != drawn(5, 1)
    assert more["a"] != more["b"]
    names |= {image.tobytes(): name for name, image in tree(tmp_path, [f"Z/{k}.png" for k in range(4)]).items()}
    with_another = drawn(3, 0)
    assert (with_another["a"], with_another["b"]) == (some["a"], some["b"])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # its own words on a damaged file, before the error
@pytest.mark.parametrize("content", [b"", b"no image", None, "cut", "renamed"])
@pytest.mark.parametrize("name", ["b/2.tif", "b/10.png"])
def test_damaged_images(tmp_path, name, content):
    tree(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    if content == "renamed":  # a format that is not among those promised
        Image.fromarray(colours()).save(path, format="BMP")
    else:
        path.write_bytes({None: whole[: len(whole) // 2], "cut": whole[:20]}.get(content, content))
    with pytest.raises(ValueError, match=f"load_folder: cannot read .*{name}.*Is it complete"):
        load_folder(tmp_path)


def test_images_that_would_lose_something(tmp_path):
    def refused(message):
        with pytest.raises(ValueError, match=f"load_folder: .*{message}"):
            load_folder(tmp_path)

    path = tmp_path / "a/1.png"
    save(path, RNG.integers(2**16, size=(6, 6), dtype=np.uint16))
    refused(r"eight bits per channel, but .*1\.png has Pillow's mode 'I;16'")
    alpha = np.full((6, 6, 4), 255, np.uint8)
    alpha[2, 3, 3] = 60
    save(path, alpha)
    refused(r"opaque images, but .*1\.png has pixels of opacity 60 of 255")
    palette = Image.fromarray(colours()).quantize(4)
    palette.save(path, transparency=0)
    refused("opacity 0 of 255")
    path.unlink()
    pages = [Image.fromarray(colours()) for _ in range(2)]
    pages[0].save(tmp_path / "a/1.tif", save_all=True, append_images=pages[1:])
    refused(r"one image in .*1\.tif, got 2 frames")


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load_folder: there is no folder .*nowhere"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"load_folder: expected a folder .*file is a file"):
        load_folder(tmp_path / "file")
    with pytest.raises(ValueError, match=r"load_folder: expected a sub-folder for each class, but .* has none"):
        load_folder(tmp_path)
    tree(tmp_path / "set")
    (tmp_path / "set/empty").mkdir()
    with pytest.raises(ValueError, match=r"class 'empty', but .*set/empty holds none among its 0"):
        load_folder(tmp_path / "set")
    for name in (".hidden.png", "notes.txt"):
        (tmp_path / "set/empty" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"set/empty holds none among its 1 visible entries\.$"):
        load_folder(tmp_path / "set")
    with pytest.raises(ValueError, match=r"class 'set'.*It holds folders: is the one to pass one level further down"):
        load_folder(tmp_path)


def test_images_of_different_sizes(tmp_path):
    tree(tmp_path)
    save(tmp_path / "b/3.png", colours(6, 7))
    with pytest.raises(ValueError, match=r"a/w\.PNG has 6 x 6 pixels and .*b/3\.png 6 x 7\. Pass size="):
        load_folder(tmp_path)
    assert load_folder(tmp_path, size=4).images.shape == (6, 4, 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 2}, "2 images of each class were asked for, but .*c holds 1. Lower per_class"),
        ({"per_class": 0}, "per_class to be an integer >= 1, got 0"),
        ({"size": 0}, "size to be an integer >= 1, got 0"),
        ({"size": 4.0}, "size to be an integer >= 1, got 4.0"),
        ({"seed": -1}, "seed to be an integer >= 0, got -1"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    tree(tmp_path)
    with pytest.raises(ValueError, match=f"load_folder: .*{message}"):
        load_folder(tmp_path, **options)


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"load_folder: needs Pillow.*pip install 'so3ntk\[images\]'"):
        load_folder(tmp_path)
