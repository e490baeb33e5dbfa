"""Maps and pictures point by point: scipy's harmonics, sums over fine grids."""

from __future__ import annotations

import numpy as np

from tests.oracles.harmonics import harmonics


def vectors(theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) at colatitudes and longitudes in radians."""
    theta, phi = np.broadcast_arrays(theta, phi)
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)


def integrals(values: np.ndarray, theta: np.ndarray, phi: np.ndarray, area: np.ndarray, bandlimit: int) -> np.ndarray:
    """sum f Y_lm area over points, (p, c), of values (..., c)."""
    table = harmonics(vectors(theta, phi), range(bandlimit)).reshape(-1, bandlimit**2)
    return table.T @ (values * area[..., None]).reshape(-1, values.shape[-1])


def bilinear(picture: np.ndarray, row: np.ndarray, column: np.ndarray, around: bool = False) -> np.ndarray:
    """The value of a picture (H, W, C) at places in pixels from its top left corner; around: its sides are joined."""
    height, width, _ = picture.shape
    value = 0
    for i in range(height):
        for j in range(width):
            rise = np.clip(1 - abs(np.clip(row, 0.5, height - 0.5) - i - 0.5), 0, None)
            away = abs(column - j - 0.5) if around else abs(np.clip(column, 0.5, width - 0.5) - j - 0.5)
            run = np.clip(1 - (np.minimum(away, width - away) if around else away), 0, None)
            value = value + (rise * run)[..., None] * picture[i, j]
    return value
