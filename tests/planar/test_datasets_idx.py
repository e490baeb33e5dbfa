"""MNIST's idx files: plain and compressed, and every way in which they can be wrong."""

import gzip
import re
import struct

import numpy as np
import pytest

from planar.datasets import load_idx

IMAGES = np.random.default_rng(0).integers(256, size=(4, 3, 2), dtype=np.uint8)
LABELS = np.array([7, 0, 9, 7], np.uint8)
IMAGE_BYTES = struct.pack(">IIII", 2051, *IMAGES.shape) + IMAGES.tobytes()
LABEL_BYTES = struct.pack(">II", 2049, 4) + LABELS.tobytes()


def load(folder, images=IMAGE_BYTES, labels=LABEL_BYTES, **options):
    (folder / "images.gz").write_bytes(images)  # the names say nothing of the content
    (folder / "labels").write_bytes(labels)
    return load_idx(folder / "images.gz", folder / "labels", **options)


@pytest.mark.parametrize("pack_labels", [bytes, gzip.compress])
@pytest.mark.parametrize("pack_images", [bytes, gzip.compress])
def test_plain_and_compressed(tmp_path, pack_images, pack_labels):
    data = load(tmp_path, pack_images(IMAGE_BYTES), pack_labels(LABEL_BYTES))
    assert data.images.dtype == np.float32
    np.testing.assert_array_equal(data.images, (IMAGES / 255).astype(np.float32)[..., None])
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.classes == tuple("0123456789")


def test_parts_of_a_chunk_and_no_images(tmp_path, monkeypatch):
    monkeypatch.setattr("planar.datasets.idx.CHUNK", 5)
    np.testing.assert_array_equal(load(tmp_path).labels, LABELS)
    empty = load(tmp_path, struct.pack(">IIII", 2051, 0, 3, 2), struct.pack(">II", 2049, 0))
    assert empty.images.shape == (0, 3, 2, 1)


def test_other_classes(tmp_path):
    names = [f"letter {k}" for k in range(26)]
    labels = struct.pack(">II", 2049, 4) + bytes([25, 0, 1, 2])
    data = load(tmp_path, labels=labels, classes=names)
    assert data.classes == tuple(names)
    assert data.labels.tolist() == [25, 0, 1, 2]


GZIPPED = gzip.compress(IMAGE_BYTES, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a header of 16 bytes, got 0: it is truncated"),
        (IMAGE_BYTES[:3], "expected a header of 16 bytes, got 3: it is truncated"),
        (IMAGE_BYTES[:11], "expected a header of 16 bytes, got 11: it is truncated"),
        (IMAGE_BYTES[:-1], "expected 24 bytes after the header, for the shape (4, 3, 2), got 23: it is truncated"),
        (IMAGE_BYTES[:16], "got 0: it is truncated"),
        (IMAGE_BYTES + b"\0", "expected 24 bytes after the header, for the shape (4, 3, 2), but it goes on"),
        (LABEL_BYTES, "expected the magic number 2051 of images, got 2049, which is that of labels: are the two paths"),
        (b"\x89PNG" + bytes(40), "expected the magic number 2051 of images, got 2303741511: it is no such idx file"),
        (struct.pack("<IIII", 2051, 4, 3, 2) + IMAGES.tobytes(), "got 50855936: it is no such idx file"),
        (struct.pack(">IIII", 2051, 4, 0, 2), "expected images with rows and columns, got (4, 0, 2) in the header"),
        (struct.pack(">IIII", 2051, *[2**32 - 1] * 3) + bytes(9), "got 9: it is truncated"),
        (GZIPPED[:-12], "compressed by gzip, but truncated or damaged"),
        (GZIPPED[:5], "compressed by gzip, but truncated or damaged"),
        (GZIPPED[:-8] + b"\0\0\0\0" + GZIPPED[-4:], "compressed by gzip, but truncated or damaged (CRC"),
        (GZIPPED[:14] + b"\xff\xff\xff\xff" + GZIPPED[18:], "compressed by gzip, but truncated or damaged"),
        (GZIPPED + b"more", "compressed by gzip, but truncated or damaged"),
        (gzip.compress(IMAGE_BYTES[:-1], mtime=0), "got 23: it is truncated"),
        (gzip.compress(IMAGE_BYTES + b"\0", mtime=0), "it goes on"),
    ],
)
def test_wrong_images(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"load_idx: .*images.gz.*{re.escape(message)}"):
        load(tmp_path, images=content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LABEL_BYTES[:6], "labels: expected a header of 8 bytes, got 6: it is truncated"),
        (LABEL_BYTES[:-2], "labels: expected 4 bytes after the header, for the shape (4,), got 2: it is truncated"),
        (LABEL_BYTES + b"\1", "labels: expected 4 bytes after the header, for the shape (4,), but it goes on"),
        (IMAGE_BYTES, "labels: expected the magic number 2049 of labels, got 2051, which is that of images"),
        (LABEL_BYTES[:-2] + b"\x0a\1", "labels: label 2 (counted from 0) is 10, out of range: expected 0 to 9"),
        (struct.pack(">II", 2049, 3) + b"\0\1\2", "images.gz holds 4 images, but"),
        (struct.pack(">II", 2049, 3) + b"\0\1\2", "labels 3 labels. Are they of the same part"),
    ],
)
def test_wrong_labels(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"load_idx: .*{re.escape(message)}"):
        load(tmp_path, labels=content)


def test_missing_files(tmp_path):
    load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"load_idx: there is no file .*nowhere"):
        load_idx(tmp_path / "nowhere", tmp_path / "labels")
    with pytest.raises(FileNotFoundError, match=r"load_idx: there is no file .*nothing"):
        load_idx(tmp_path / "images.gz", tmp_path / "nothing")
