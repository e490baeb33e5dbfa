r"""The G x G recursion for filters on caps, by integration over the caps in real space: slow, and in plain NumPy.

Nothing here knows of relative motions, cap multipliers or grids of positions. A kernel is a number for each pair (g, g')
of rotation matrices, and every integral is a sum over points of a cap about the pole o,

    lifting            K(g, g') = W^2 mean over y in the cap of mean_c f_c(g y) f'_c(g' y) + b^2
    group convolution  K(g, g') <- W^2 mean over u, u o in the cap, of K(g u, g' u) + b^2
    nonlinearity       pointwise, with the variances K(g, g) of f and K(g', g') of f'

so that the kernels at one pair (g, g') need those of all layers before at all (g u, g' u): a recursion from the last
layer to the first, whose cost is a product over the layers. Harmonics are scipy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from tests.oracles.duals import DUALS, dense
from tests.oracles.harmonics import harmonics


class Values(NamedTuple):
    """K(g, g') of (f, f') and its tangent kernel, K(g, g) of (f, f) and K(g', g') of (f', f'), all of one shape."""

    pair: np.ndarray
    tangent: np.ndarray
    own: np.ndarray
    other: np.ndarray


class Rule(NamedTuple):
    """Gauss-Legendre points in the cosine of the angle to the pole, and points on each circle."""

    polar: int = 10
    azimuthal: int = 16

    def cap(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Polar angles and azimuths (n, 2) of the cap's points, and weights that sum to one."""
        nodes, weights = np.polynomial.legendre.leggauss(self.polar)
        beta = np.arccos(1 - (1 - np.cos(angle)) * (1 - nodes) / 2)
        alpha = 2 * np.pi * (np.arange(self.azimuthal) + 0.3) / self.azimuthal
        points = np.stack(np.meshgrid(beta, alpha, indexing="ij"), axis=-1).reshape(-1, 2)
        return points, np.repeat(weights / 2, self.azimuthal) / self.azimuthal


def kernels(f: np.ndarray, g: np.ndarray, at: np.ndarray, to: np.ndarray, layers: Sequence[Any], rule: Rule) -> Values:
    """Kernels of coefficients f, g (p, c) at pairs of rotation matrices ``at``, ``to`` (..., 3, 3).

    layers: ("lift", angle, W, b), then names of ``DUALS`` or functions like them, and ("conv", angle, W, b); angle None
    is the whole sphere.
    """
    *before, last = layers
    if not before:
        return _affine(_lifted(f, g, at, to, last[1], rule), last)
    if isinstance(last, tuple):
        steps, weights = _support(last[1], rule)
        inner = kernels(f, g, at[..., None, :, :] @ steps, to[..., None, :, :] @ steps, before, rule)
        return _affine(Values(*(values @ weights for values in inner)), last)
    values = kernels(f, g, at, to, before, rule)
    dual = DUALS[last] if isinstance(last, str) else last
    pair, slope = dual(values.pair, values.own, values.other)
    own, other = (dual(q, q, q)[0] for q in (values.own, values.other))
    return Values(pair, slope * values.tangent, own, other)


def _lifted(f, g, at, to, angle, rule) -> Values:
    points, weights = rule.cap(np.pi if angle is None else angle)
    beta, alpha = points.T
    directions = np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)])
    degrees = range(round(len(f) ** 0.5))
    a, b = (harmonics(np.moveaxis(r @ directions, -2, -1), degrees) @ s for r, s in ((at, f), (to, g)))
    pair, own, other = (np.mean(x * y, axis=-1) @ weights for x, y in ((a, b), (a, a), (b, b)))
    return Values(pair, np.zeros_like(pair), own, other)


def _support(angle, rule) -> tuple[np.ndarray, np.ndarray]:
    """Rotations that move the pole into the cap: its points, each with two twists about the pole."""
    points, weights = rule.cap(np.pi if angle is None else angle)
    angles = [(alpha, beta, twist - alpha) for beta, alpha in points for twist in (0.4, 2.9)]
    return Rotation.from_euler("ZYZ", angles).as_matrix(), np.repeat(weights, 2) / 2


def _affine(values: Values, layer) -> Values:
    _, _, W_std, b_std = layer
    pair, tangent = dense(values.pair, values.tangent, W_std, b_std)
    own, other = (dense(q, 0, W_std, b_std)[0] for q in (values.own, values.other))
    return Values(pair, tangent, own, other)
