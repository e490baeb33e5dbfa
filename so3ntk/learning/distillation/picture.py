"""The picture of a support set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

#: Inputs in a row where there are no classes.
COLUMNS = 10
#: Pixels between two pictures, as a share of their width.
GAP = 0.08


def draw_support(axes: Any, inputs: Any, labels: np.ndarray | None, shape: Sequence[int] | None, title: str) -> None:
    """A picture for each input; a column for each class, or rows of ten. Every picture has its own grey scale."""
    pictures = as_pictures(inputs, shape)
    columns = _columns(labels, len(pictures))
    height, width = pictures.shape[1:3]
    gap = max(1, round(GAP * width))
    rows = max(len(column) for _, column in columns)
    canvas = np.ones((rows * (height + gap) - gap, len(columns) * (width + gap) - gap, pictures.shape[-1]))
    for place, (_, column) in enumerate(columns):
        for row, index in enumerate(column):
            top, left = row * (height + gap), place * (width + gap)
            canvas[top : top + height, left : left + width] = _unit(pictures[index])
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([i * (width + gap) + width / 2 - 0.5 for i in range(len(columns))], [name for name, _ in columns])
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8, pad=1)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, fontsize=9)


def size_of(inputs: Any, labels: np.ndarray | None, shape: Sequence[int] | None) -> tuple[float, float]:
    """Inches of a figure that holds nothing else."""
    pictures = as_pictures(inputs, shape)
    columns = _columns(labels, len(pictures))
    rows = max(len(column) for _, column in columns)
    each = 0.62
    return each * len(columns) + 0.2, each * rows * pictures.shape[1] / pictures.shape[2] + 0.6


def as_pictures(inputs: Any, shape: Sequence[int] | None) -> Float[np.ndarray, "n h w c"]:
    """Images as they are, vectors in the shape, signals on the sphere by latitude (north up) and longitude; one channel or three.

    ValueError for vectors without a shape, and for other numbers of channels.
    """
    if hasattr(inputs, "to_map"):
        pictures = inputs.to_map(np.linspace(90, -90, 46), np.linspace(-180, 180, 91))
    else:
        pictures = np.asarray(inputs, np.float64)
        if shape is not None:
            pictures = pictures.reshape(len(pictures), *shape)
        elif pictures.ndim == 2:
            raise ValueError("Distilled.plot: the inputs are vectors; pass shape=(H, W) of the images that they are.")
    pictures = pictures[..., None] if pictures.ndim == 3 else pictures
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 3):
        raise ValueError(f"Distilled.plot: expected images with one channel or three, got inputs {pictures.shape}.")
    return pictures


def _columns(labels: np.ndarray | None, n: int) -> list[tuple[str, list[int]]]:
    """A title and indices for each column."""
    if labels is None:
        width = min(n, COLUMNS)
        return [("", list(range(i, n, width))) for i in range(width)]
    return [(str(name), np.flatnonzero(labels == name).tolist()) for name in np.unique(labels)]


def _unit(picture: Float[np.ndarray, "h w c"]) -> np.ndarray:
    """From its least value, black, to its largest, white."""
    least, largest = picture.min(), picture.max()
    return (picture - least) / (largest - least or 1.0)
