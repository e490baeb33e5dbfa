"""Data sets in random orientation: what an invariant network does not notice."""

from __future__ import annotations

import numpy as np

from planar.datasets.image_data import ImageData, positive_integer


def quarter_turns(data: ImageData, seed: int) -> ImageData:
    """Every image rotated by its own random multiple of 90 degrees, all four equally likely.

    Rotation k is ``numpy.rot90`` by k in the image plane, axes (1, 2) of (n, H, W, C), about the image centre.
    The seed and the place of an image decide its k. Raises ValueError for images that are not square.
    """
    height, width = data.images.shape[1:3]
    if height != width:
        raise ValueError(
            f"quarter_turns: expected square images, got {height} x {width}: a quarter turn would change their shape."
        )
    turns = np.random.default_rng(positive_integer(seed, "seed", "quarter_turns", 0)).integers(4, size=len(data))
    images = np.empty_like(data.images)
    for k in range(4):
        images[turns == k] = np.rot90(data.images[turns == k], k, axes=(1, 2))
    return ImageData(images, data.labels, data.classes)
