"""Images with a class each from wherever they are, at the resolution that kernels can afford."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float

from planar.datasets.digits import load_digits
from planar.datasets.folder import load_folder
from planar.datasets.idx import load_idx
from planar.datasets.image_data import ImageData, positive_integer
from planar.datasets.npz import PARTS, load_npz, names_in

#: The files of MNIST and its relatives, plain or compressed, with "-" or "." before "idx".
IDX_IMAGES, IDX_LABELS = "train-images?idx3-ubyte*", "train-labels?idx1-ubyte*"
IDX_TESTS = "t10k-images?idx3-ubyte*", "t10k-labels?idx1-ubyte*"


def load_images(
    path: str | PathLike | None = None,
    pixels: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    *,
    images: str | PathLike | None = None,
    labels: str | PathLike | None = None,
) -> ImageData:
    """Labelled images of scikit-learn's digits (None), an npz file, MNIST's folder or a folder of tiles.

    MNIST's folder holds train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz), which are read; the test part is
    not: see ``load_parts``. images, labels: which ones, both or none: names of two arrays of the npz file, or of two idx
    files, in the folder ``path`` if there is one. pixels: shrink to pixels x pixels, by ``shrink``, or for tiles by
    ``load_folder``, which also makes images of different sizes equal. per_class, seed: for a folder of tiles, as for
    ``load_folder``.

    Raises FileNotFoundError, and ValueError as the readers do, for ``per_class`` with another source, for one of ``images``
    and ``labels`` alone, and for images that are not square where ``pixels`` is given.
    """
    folder = None if path is None else Path(path)
    if (images is None) != (labels is None):
        raise ValueError("load_images: expected both images= and labels=, or none of them, got one alone.")
    is_tiles = images is None and folder is not None and folder.is_dir() and not any(folder.glob(IDX_IMAGES))
    if per_class is not None and not is_tiles:
        raise ValueError(
            f"load_images: per_class is for a folder of tiles with a sub-folder for each class, not {path}."
        )
    if images is not None and labels is not None:
        if folder is not None and folder.suffix == ".npz":
            data = load_npz(folder, str(images), str(labels))
        else:
            place = folder or Path()
            data = load_idx(place / images, place / labels)
    elif folder is None:
        data = load_digits()
    elif is_tiles:
        return load_folder(folder, pixels, seed, per_class)
    elif folder.is_dir():
        data = load_idx(_only(folder, IDX_IMAGES), _only(folder, IDX_LABELS))
    elif folder.exists() and folder.suffix != ".npz":
        raise ValueError(f"load_images: expected an npz file or a folder, got {folder}.")
    else:
        data = load_npz(folder)
    return data if pixels is None else shrink(data, pixels)


def load_parts(path: str | PathLike | None = None) -> tuple[ImageData, ImageData | None]:
    """The training images of a source, as ``load_images`` reads them, and its test images; None where it has no such part.

    Two parts have npz files with x_train, y_train, x_test, y_test (MNIST as Keras has it) or with train_images, train_labels,
    test_images, test_labels (MedMNIST, whose validation images are left out), and folders of MNIST's four idx files.
    Raises what ``load_images`` raises.
    """
    folder = None if path is None else Path(path)
    if folder is not None and folder.suffix == ".npz" and folder.is_file():
        for train_images, train_labels, test_images, test_labels in PARTS:
            if {test_images, test_labels} <= names_in(folder):
                return load_npz(folder, train_images, train_labels), load_npz(folder, test_images, test_labels)
    if folder is not None and folder.is_dir() and all(any(folder.glob(name)) for name in IDX_TESTS):
        return load_images(folder), load_idx(_only(folder, IDX_TESTS[0]), _only(folder, IDX_TESTS[1]))
    return load_images(folder), None


def shrink(data: ImageData, pixels: int) -> ImageData:
    """Square images at a lower resolution: each new pixel is the mean over the area it covers.

    Old pixels on the edge of two new ones count by their share of area, so any ``pixels`` up to the size will do, and
    shrinking commutes with quarter turns and reflections. Raises ValueError for larger ones, and for images that are
    not square.
    """
    positive_integer(pixels, "pixels", "shrink")
    height, width = data.images.shape[1:3]
    if height != width:
        raise ValueError(f"shrink: expected square images, got {height} x {width}. Crop them first.")
    if pixels > height:
        raise ValueError(f"shrink: expected at most the {height} pixels that the images have, got {pixels}.")
    if pixels == height:
        return data
    shares = _shares(height, pixels)
    rows = np.moveaxis(np.tensordot(data.images, shares, (1, 1)), -1, 1)
    images = np.moveaxis(np.tensordot(rows, shares, (2, 1)), -1, 2)
    return ImageData(np.clip(images, 0, 1), data.labels, data.classes)  # a mean of ones may round to more


def _shares(size: int, pixels: int) -> Float[np.ndarray, "pixels size"]:
    """How much of each new pixel an old one covers, along one axis: rows sum to one."""
    edges = np.arange(pixels + 1) * (size / pixels)
    old = np.arange(size)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (np.clip(overlap, 0, None) * (pixels / size)).astype(np.float32)


def _only(folder: Path, pattern: str) -> Path:
    """The file of that name; the first where it is there plain and compressed."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"load_images: expected a file {pattern} in {folder}, beside {IDX_IMAGES}.")
    return found[0]
