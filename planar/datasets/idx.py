"""The idx files of MNIST and of the sets made like it: a big-endian header, then bytes.

=======  ================================================================
offset   content, integers of four bytes
=======  ================================================================
0        magic number: 0x803 (2051) for images, 0x801 (2049) for labels
4        their number n
8, 12    rows and columns, for images only
then     n * rows * columns, or n, bytes
=======  ================================================================

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from planar.datasets.image_data import ImageData, check_labels, unit_images

DIGITS = tuple("0123456789")
GZIP = b"\x1f\x8b"
CHUNK = 1 << 20


def load_idx(images_path: str | PathLike, labels_path: str | PathLike, classes: Sequence[str] = DIGITS) -> ImageData:
    """The images (n, H, W, 1) and labels of two idx files, each plain or compressed by gzip, whatever its name.

    classes: names of the labels 0, 1, ...; the ten digits for MNIST. Bytes are divided by 255.

    Raises FileNotFoundError. ValueError, naming the file, what was expected and what came: for another magic number,
    a file that is truncated or goes on after its data, damaged compression, a label without a class, and two files
    of different length.
    """
    images = _read(Path(images_path), "images", 3)
    labels = _read(Path(labels_path), "labels", 1).astype(np.int64)
    if len(images) != len(labels):
        raise ValueError(
            f"load_idx: {images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels. Are they "
            "of the same part, train or test?"
        )
    check_labels(labels, len(classes), f"load_idx: {labels_path}")
    return ImageData(unit_images(images, f"load_idx: {images_path}"), labels, tuple(classes))


def _read(path: Path, content: str, ndim: int) -> UInt8[np.ndarray, " *shape"]:
    """The array of one file. ``content``: what it should hold, for errors."""
    if not path.is_file():
        raise FileNotFoundError(f"load_idx: there is no file {path}.")
    with open(path, "rb") as file:
        compressed = file.read(2) == GZIP
        file.seek(0)
        if not compressed:
            return _parse(file, path, content, ndim)
        try:
            with gzip.open(file) as inside:
                return _parse(inside, path, content, ndim)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"load_idx: {path} is compressed by gzip, but truncated or damaged ({error}). Fetch it again."
            ) from error


def _parse(file: BufferedIOBase, path: Path, content: str, ndim: int) -> UInt8[np.ndarray, " *shape"]:
    length = 4 * (1 + ndim)
    header = file.read(length)
    magic = int.from_bytes(header[:4], "big")
    # The third byte is the type of the values, 8 for unsigned bytes, and the fourth the number of axes.
    if len(header) >= 4 and magic != 0x800 + ndim:
        raise ValueError(
            f"load_idx: {path}: expected the magic number {0x800 + ndim} of {content}, got {magic}{_known(magic)}."
        )
    if len(header) < length:
        raise ValueError(f"load_idx: {path}: expected a header of {length} bytes, got {len(header)}: it is truncated.")
    shape = struct.unpack(f">{ndim}I", header[4:])
    expected = math.prod(shape)
    if 0 in shape[1:]:
        raise ValueError(f"load_idx: {path}: expected images with rows and columns, got {shape} in the header.")
    data = _read_at_most(file, expected + 1)
    if len(data) < expected:
        raise ValueError(
            f"load_idx: {path}: expected {expected} bytes after the header, for the shape {shape}, got {len(data)}: it "
            "is truncated."
        )
    if len(data) > expected:
        raise ValueError(
            f"load_idx: {path}: expected {expected} bytes after the header, for the shape {shape}, but it goes on "
            "after them: its header is damaged, or other data are appended."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_at_most(file: BufferedIOBase, count: int) -> bytes:
    """The next bytes, in parts: a damaged header may ask for more than there is memory."""
    parts = []
    while count > 0 and (part := file.read(min(CHUNK, count))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _known(magic: int) -> str:
    if magic in (0x801, 0x803):
        return f", which is that of {'labels' if magic == 0x801 else 'images'}: are the two paths swapped?"
    return ": it is no such idx file"
