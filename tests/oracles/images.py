"""Kernels of convolutional networks on images by the direct recursion on pairs of pixels, in NumPy.

A kernel is K[x1, x2, x1', x2'] for two images; padding is done with np.pad on all four axes, rotations with np.rot90.
Nothing here knows of displacements. C4 networks are the mean over the turned second image (tests of that fact by the
recursion on G x G are in the literature: Misof, Kessel, Gerken 2025).
"""

from __future__ import annotations

import numpy as np

from tests.oracles.duals import DUALS

TURNS = {"C1": [(0, 0)], "C2": [(0, 0), (2, 0)], "C4": [(k, 0) for k in range(4)],
         "D4": [(k, m) for m in (0, 1) for k in range(4)]}  # fmt: skip


def image_kernels(f, g, layers, group="C1", head=(1.0, 0.0)) -> np.ndarray:
    """NNGP and NTK of two images (n, n, c) after ``layers``, pooling over pixels and group, and a dense layer (W, b).

    layers: "relu" or "erf"; (k, padding, W_std, b_std) for a convolution.
    """
    means = []
    for turns, mirrored in TURNS[group]:
        other = np.rot90(g[:, ::-1] if mirrored else g, turns)
        nngp, ntk = (k.mean() for k in _field(f, other, layers))
        weight, bias = head[0] ** 2, head[1] ** 2
        means.append((weight * nngp + bias, weight * nngp + bias + weight * ntk))
    return np.mean(means, axis=0)


def _field(f, g, layers):
    pair, own, other = (np.einsum("abc,dec->abde", u, v) / f.shape[-1] for u, v in ((f, g), (f, f), (g, g)))
    tangent = 0 * pair
    for layer in layers:
        if isinstance(layer, str):
            q1, q2 = (np.einsum("abab->ab", k) for k in (own, other))
            pair, slope = DUALS[layer](pair, q1[:, :, None, None], q2[None, None])
            tangent = tangent * slope
            own, other = (DUALS[layer](k, q[:, :, None, None], q[None, None])[0] for k, q in ((own, q1), (other, q2)))
        else:
            size, padding, W_std, b_std = layer
            pair, own, other, tangent = (_average(k, size, padding) for k in (pair, own, other, tangent))
            pair, own, other = (W_std**2 * k + b_std**2 for k in (pair, own, other))
            tangent = pair + W_std**2 * tangent
    return pair, tangent


def _average(kernel: np.ndarray, size: int, padding: str) -> np.ndarray:
    if padding != "VALID":
        kernel = np.pad(kernel, size // 2, mode="wrap" if padding == "CIRCULAR" else "constant")
    n = kernel.shape[0] - size + 1
    return sum(kernel[i : i + n, j : j + n, i : i + n, j : j + n] for i in range(size) for j in range(size)) / size**2
