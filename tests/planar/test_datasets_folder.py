"""Folders of image files: formats, order, drawing, sizes, and every way in which they can be wrong."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planar.datasets import load_folder, load_npz

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


def test_palettes_of_greys_have_one_channel(tmp_path):
    pixels = RNG.choice(np.array([9, 80, 250], np.uint8), (6, 6))
    (tmp_path / "a").mkdir()
    grey = Image.fromarray(np.repeat(pixels[..., None], 3, axis=-1)).quantize(4)
    assert grey.mode == "P"
    grey.save(tmp_path / "a/1.png")
    grey.save(tmp_path / "a/2.tif")
    grey.convert("PA").save(tmp_path / "a/3.tif")
    data = load_folder(tmp_path)
    assert data.images.shape == (3, 6, 6, 1)
    np.testing.assert_array_equal(data.images, np.stack([pixels] * 3)[..., None] / np.float32(255))
    # A file of three channels is coloured whatever is in it
    save(tmp_path / "b/1.png", np.repeat(pixels[..., None], 3, axis=-1))
    assert load_folder(tmp_path).images.shape == (4, 6, 6, 3)


#: What a viewer does to the stored pixels, by the numbers of EXIF and TIFF, written out: rows and columns of the result.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def test_the_orientations_by_hand():
    """EXIF: where row 0 and column 0 of the stored image are, seen upright. A stored F with orientation 6 lies on its side."""
    corners = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
               5: "left top", 6: "right top", 7: "right bottom", 8: "left bottom"}  # fmt: skip
    stored = np.array([[1, 2], [3, 0]])  # row 0 is (1, 2), column 0 is (1, 3)
    for number, (row, column) in ((n, text.split()) for n, text in corners.items()):
        seen = UPRIGHT[number](stored)
        sides = {"top": seen[0], "bottom": seen[1], "left": seen[:, 0], "right": seen[:, 1]}
        assert set(sides[row]) == {1, 2}
        assert set(sides[column]) == {1, 3}


@pytest.mark.parametrize("number", UPRIGHT)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_orientation(tmp_path, number, channels):
    small = RNG.integers(256, size=(3, 5, *channels), dtype=np.uint8)
    stored = np.kron(small, np.ones((8, 8, *(1 for _ in channels)), np.uint8))  # blocks, which JPEG keeps
    exif = Image.Exif()
    exif[274] = number
    seen = UPRIGHT[number](stored).reshape(*UPRIGHT[number](stored).shape[:2], -1)
    for name, options in {
        "1.png": {"exif": exif},
        "1.jpg": {"exif": exif, "quality": 100, "subsampling": 0},
        "1.tif": {"tiffinfo": {274: number}},
        "2.tif": {"tiffinfo": {274: number}, "compression": "tiff_lzw"},
    }.items():
        save(tmp_path / name / "a" / name, stored, **options)
        image = load_folder(tmp_path / name).images[0]
        np.testing.assert_allclose(image * 255, seen, atol=3 if "jpg" in name else 1e-5, rtol=0)
        # Turned before it is resized: to a square, after which it would be too late
        tile = load_folder(tmp_path / name, size=4).images[0]
        squeezed = Image.fromarray(seen.squeeze()).resize((4, 4), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(tile.squeeze() * 255, squeezed, atol=3 if "jpg" in name else 1e-4, rtol=0)


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
    other = "It is damaged, or of another format than TIFF, PNG, JPEG"
    cause = other if content in (b"", b"no image", "renamed") else f"({other}|It is damaged or truncated)"
    with pytest.raises(ValueError, match=rf"load_folder: cannot read .*{name} .*{cause}"):
        load_folder(tmp_path)


def test_too_many_pixels(tmp_path, monkeypatch):
    save(tmp_path / "a/1.png", colours(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"DecompressionBombError.*Shrink it, or raise PIL\.Image\.MAX_IMAGE_PIXELS\."):
        load_folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert len(load_folder(tmp_path)) == 1


def png(pixels, colour_type):
    """A PNG file of 16 bits per channel, which Pillow writes for grey only."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)),
        b"IEND": b"",
    }
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(pixels, bits, sample_format=1):
    """An uncompressed TIFF file in one strip, written out by the specification; little-endian."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"<{'ui'[sample_format - 1]}{bits // 8}").tobytes()
    lists = struct.pack(f"<{channels}H", *[bits] * channels), struct.pack(f"<{channels}H", *[sample_format] * channels)
    where = 8 + len(data), 8 + len(data) + len(lists[0])
    short = lambda value: struct.pack("<HH", value, 0)  # noqa: E731
    inline = lambda k: lists[k].ljust(4, b"\0") if channels <= 2 else struct.pack("<I", where[k])  # noqa: E731
    entries = [(256, 4, 1, struct.pack("<I", width)), (257, 4, 1, struct.pack("<I", height)), (258, 3, channels, inline(0)),
               (259, 3, 1, short(1)), (262, 3, 1, short(2 if channels == 3 else 1)), (273, 4, 1, struct.pack("<I", 8)),
               (277, 3, 1, short(channels)), (278, 4, 1, struct.pack("<I", height)),
               (279, 4, 1, struct.pack("<I", len(data))), (339, 3, channels, inline(1))]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in entries)
    head = b"II*\0" + struct.pack("<I", 8 + len(data) + len(lists[0]) + len(lists[1]))
    return head + data + b"".join(lists) + directory + struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1.png", lambda x: png(x, 2)),  # colour
        ("1.png", lambda x: png(np.concatenate([x[..., :1], 0 * x[..., :1] + 65535], axis=-1), 4)),  # grey and alpha
        ("1.png", lambda x: png(np.concatenate([x, 0 * x[..., :1] + 65535], axis=-1), 6)),  # colour and alpha
        ("1.png", lambda x: png(x[..., :1], 0)),
        ("1.tif", lambda x: tiff(x, 16)),
        ("1.tif", lambda x: tiff(x[..., :1], 16)),
    ],
)
def test_sixteen_bits(tmp_path, name, content):
    """Pillow cuts them to eight where there is colour or alpha, and says nothing: values up to 4095 become 0 to 15."""
    values = RNG.integers(4096, size=(6, 6, 3), dtype=np.uint16)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(content(values))
    with pytest.raises(ValueError, match=rf"eight bits per channel, but .*{name} has 16\. Convert it to bytes"):
        load_folder(tmp_path)
    # The two ways out that are named
    np.savez(tmp_path / "m.npz", x=(values / 4095)[None], y=[0])
    np.testing.assert_array_equal(load_npz(tmp_path / "m.npz").images[0], (values / 4095).astype(np.float32))
    (tmp_path / "a" / name).unlink()
    save(tmp_path / "a" / name, (values / 4095 * 255).astype(np.uint8))
    assert load_folder(tmp_path).images.max() > 0.9


def test_signed_numbers_and_palettes_of_sixteen_bits(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = RNG.integers(-100, 100, size=(6, 6, 1))
    (tmp_path / "a/1.tif").write_bytes(tiff(pixels, 8, sample_format=2))
    with pytest.raises(ValueError, match=r"but .*1\.tif has signed numbers"):
        load_folder(tmp_path)
    (tmp_path / "a/1.tif").write_bytes(tiff(abs(pixels), 8))
    np.testing.assert_array_equal(load_folder(tmp_path).images[0], (abs(pixels) / 255).astype(np.float32))
    palette = Image.fromarray(colours()).quantize(4)
    for scale, message in ((256, None), (257, None), (16, "has a palette of 16 bits")):
        table = [0] * 768
        for k in range(256):
            table[k] = table[256 + k] = table[512 + k] = k * scale
        palette.save(tmp_path / "a/1.tif", tiffinfo={320: tuple(table)})
        content = (tmp_path / "a/1.tif").read_bytes()
        with Image.open(tmp_path / "a/1.tif") as image:
            written = image.tag_v2[320]
        if written != tuple(table):  # Pillow writes its own palette: put ours in its place
            old, new = (struct.pack("<768H", *values) for values in (written, table))
            assert content.count(old) == 1
            (tmp_path / "a/1.tif").write_bytes(content.replace(old, new))
        if message is None:
            assert load_folder(tmp_path).images.shape == (1, 6, 6, 1)
        else:
            with pytest.raises(ValueError, match=message):
                load_folder(tmp_path)


def test_images_that_would_lose_something(tmp_path):
    def refused(message):
        with pytest.raises(ValueError, match=f"load_folder: .*{message}"):
            load_folder(tmp_path)

    path = tmp_path / "a/1.png"
    save(path, RNG.integers(2**16, size=(6, 6), dtype=np.uint16))
    refused(r"eight bits per channel, but .*1\.png has 16")
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
    Image.fromarray(colours()).convert("CMYK").save(tmp_path / "a/1.tif")
    refused(r"expected grey or colour, but .*1\.tif has Pillow's mode 'CMYK'\. Save it as grey or RGB\.")
    Image.open(tmp_path / "a/1.tif").convert("RGB").save(tmp_path / "a/1.tif")
    assert load_folder(tmp_path).images.shape == (1, 6, 6, 3)


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"load_folder: there is no folder .*nowhere"):
        load_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"load_folder: expected a folder .*file is a file"):
        load_folder(tmp_path / "file")
    with pytest.raises(ValueError, match=r"load_folder: expected a sub-folder for each class, but .* has none"):
        load_folder(tmp_path)
    save(tmp_path / "one/class/1.png", colours())
    with pytest.raises(
        ValueError, match=r"class has none\. If it holds the images of one class, pass the folder above it"
    ):
        load_folder(tmp_path / "one/class")
    assert load_folder(tmp_path / "one").classes == ("class",)
    (tmp_path / "one").rename(tmp_path / ".one")
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
    with pytest.raises(ImportError, match=r"load_folder: needs Pillow.*pip install -e '\.\[images\]' in the checkout"):
        load_folder(tmp_path)
