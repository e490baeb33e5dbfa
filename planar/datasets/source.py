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
from planar.datasets.npz import load_npz

#: The training files of MNIST and its relatives, plain or compressed, with "-" or "." before "idx".
IDX_IMAGES, IDX_LABELS = "train-images?idx3-ubyte*", "train-labels?idx1-ubyte*"


def load_images(
    path: str | PathLike | None = None, pixels: int | None = None, per_class: int | None = None, seed: int = 0
) -> ImageData:
    """Labelled images of scikit-learn's digits (None), an npz file, MNIST's folder or a folder of tiles.

    MNIST's folder holds train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz), which are read; the test part is
    not. pixels: shrink to pixels x pixels, by ``shrink``, or for tiles by ``load_folder``, which also makes images of
    different sizes equal. per_class, seed: for a folder of tiles, as for ``load_folder``.

    Raises FileNotFoundError, and ValueError as the readers do, for ``per_class`` with another source, and for images
    that are not square where ``pixels`` is given.
    """
    folder = None if path is None else Path(path)
    is_tiles = folder is not None and folder.is_dir() and not any(folder.glob(IDX_IMAGES))
    if per_class is not None and not is_tiles:
        raise ValueError(
            f"load_images: per_class is for a folder of tiles with a sub-folder for each class, not {path}."
        )
    if folder is None:
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
