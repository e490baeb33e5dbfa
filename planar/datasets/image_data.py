"""Images with a class each, and what the readers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arrays import refuse_masked


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and the class of each.

    images (n, H, W, C): float32 in [0, 1], channels last. labels (n,): integers, the place of each image's class in
    ``classes``, the names. A class may be without images. Arrays may have any byte order; they are kept in the native one.

    Raises ValueError and TypeError for anything else, masked arrays among it.
    """

    images: Float[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]
    classes: tuple[str, ...]

    def __post_init__(self):
        where = type(self).__name__
        for name in ("images", "labels"):
            object.__setattr__(self, name, _native(getattr(self, name), f"{where}: the {name}"))
        _check_images(self.images, where)
        if not isinstance(self.classes, tuple) or not all(isinstance(name, str) for name in self.classes):
            raise TypeError(f"{where}: expected classes to be a tuple of names (str), got {self.classes!r}.")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"{where}: expected each class once, got {self.classes}.")
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype.kind not in "iu":
            raise TypeError(f"{where}: expected labels to be a NumPy array of integers, got {describe(self.labels)}.")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"{where}: expected a label for each of the {len(self.images)} images, got labels of shape "
                f"{self.labels.shape}."
            )
        check_labels(self.labels, len(self.classes), where)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Any) -> ImageData:
        """Some of the images: a slice, indices or a mask; one integer gives a data set of one."""
        rows = np.atleast_1d(np.arange(len(self))[indices])
        return ImageData(self.images[rows], self.labels[rows], self.classes)


def unit_images(values: np.ndarray, where: str) -> Float[np.ndarray, "n h w c"]:
    """float32 images in [0, 1] of bytes, which are divided by 255, or of floats that are already in [0, 1].

    values: (n, H, W), which gets one channel, or (n, H, W, C). Raises ValueError for other shapes and types, for
    floats that are not finite or out of [0, 1], and for what looks like channels first.
    """
    if values.ndim not in (3, 4) or 0 in values.shape[1:]:
        raise ValueError(
            f"{where}: expected images (n, H, W) or (n, H, W, C), got the shape {values.shape}. If pixels are in one "
            "row, reshape them."
        )
    if values.ndim == 4 and values.shape[1] <= 4 < values.shape[3]:
        raise ValueError(
            f"{where}: expected channels last, (n, H, W, C), but {values.shape} looks like channels first. "
            "Store images.transpose(0, 2, 3, 1)."
        )
    if values.ndim == 3:
        values = values[..., None]
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    if values.dtype.kind != "f":
        raise ValueError(
            f"{where}: expected images as uint8 (0 to 255) or as floats in [0, 1], got {values.dtype}, of which the "
            "largest value is not known. Convert them to floats."
        )
    _check_range(values, where)
    return values.astype(np.float32)


def check_labels(labels: np.ndarray, k: int, where: str) -> None:
    """ValueError unless all labels are from 0 to k - 1; it names the first other one."""
    outside = (labels < 0) | (labels >= k)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(
            f"{where}: label {row} (counted from 0) is {labels[row]}, out of range: expected 0 to {k - 1} for {k} "
            "classes."
        )


def positive_integer(value: Any, name: str, where: str, least: int = 1) -> int:
    """The value. ValueError unless it is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{where}: expected {name} to be an integer >= {least}, got {value!r}.")
    return int(value)


def describe(value: Any) -> str:
    """An array by its type and shape, anything else by its class."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _native(values: Any, what: str) -> Any:
    """An array in native byte order and without a mask; ValueError if it has masked entries."""
    refuse_masked(values, what)
    if not isinstance(values, np.ndarray):
        return values
    return np.asarray(values).astype(values.dtype.newbyteorder("="), copy=False)


def _check_images(images: Any, where: str) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        kind = images.dtype if isinstance(images, np.ndarray) else None
        remedy = (
            " Pass images.astype(np.float32), which rounds them."
            if kind is not None and kind.kind == "f"
            else " Pass (images / 255).astype(np.float32)."
            if kind == np.uint8
            else ""
        )
        raise TypeError(
            f"{where}: expected images to be a NumPy array of float32 in [0, 1], got {describe(images)}.{remedy}"
        )
    if images.ndim != 4 or 0 in images.shape[1:]:
        hint = " For one channel pass images[..., None]." if images.ndim == 3 else ""
        raise ValueError(f"{where}: expected images (n, H, W, C), got the shape {images.shape}.{hint}")
    _check_range(images, where)


def _check_range(images: Float[np.ndarray, "n h w c"], where: str) -> None:
    """ValueError for the first image with a value that is NaN or out of [0, 1]."""
    if len(images) == 0 or (images.min() >= 0 and images.max() <= 1):  # false for NaN
        return
    pixels = images.reshape(len(images), -1)
    wrong = ~((pixels >= 0) & (pixels <= 1))
    row = int(np.argmax(wrong.any(axis=1)))
    value = pixels[row, np.argmax(wrong[row])]
    raise ValueError(
        f"{where}: expected finite values in [0, 1], but image {row} (counted from 0) holds {value}. Rescale the "
        "images, or store bytes (uint8)."
    )
