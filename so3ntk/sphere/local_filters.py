r"""White noise cut to a cap, as coefficients of finite networks' filters.

Cut to a support S, white noise of unit variance divided by sqrt(abs(S)) has coefficients, in functions e_i orthonormal
for the normalised measure, that are Gaussian with covariance

.. math:: \frac{1}{|S|} \int_S e_i\, e_j .

A root of this matrix maps independent coefficients to them. Features of finite bandlimit see no other coefficients.
"""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.features import HIGHEST
from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.rotations import block_indices, real_wigner_D, real_wigner_table


def mix_degrees(filters: tuple[Array, ...], root: Float[np.ndarray, "p p"]) -> tuple[Array, ...]:
    """The matrix applied to the coefficients of all degrees, (2l + 1, ..., C, K) each."""
    flat = jnp.concatenate([kappa.reshape(-1, *kappa.shape[-2:]) for kappa in filters])
    mixed = jnp.einsum("pq,qck->pck", jnp.asarray(root, flat.dtype), flat, precision=HIGHEST)
    starts = np.cumsum([0] + [int(np.prod(kappa.shape[:-2])) for kappa in filters])
    return tuple(mixed[a:b].reshape(kappa.shape) for a, b, kappa in zip(starts, starts[1:], filters, strict=False))


@lru_cache(maxsize=32)
def lifting_root(bandlimit: int, support: float) -> Float[np.ndarray, "p p"]:
    """For filters on the sphere, in sqrt(4 pi) Y_lm: a cap about the pole."""
    z, weights = _heights(bandlimit, support)
    phi = 2 * np.pi * np.arange(2 * bandlimit) / (2 * bandlimit)
    ring = np.sqrt(1 - z**2)
    points = np.stack(
        [np.outer(ring, np.cos(phi)), np.outer(ring, np.sin(phi)), np.outer(z, np.ones_like(phi))], axis=-1
    )
    functions = np.sqrt(4 * np.pi) * real_harmonics(points.reshape(-1, 3), bandlimit)
    return _root(functions, np.repeat(weights, len(phi)) / len(phi))


@lru_cache(maxsize=32)
def convolution_root(bandlimit: int, support: float) -> Float[np.ndarray, "p p"]:
    """For filters on SO(3), in sqrt(2l + 1) D^l_mn: the rotations that move the pole by at most the support."""
    z, weights = _heights(bandlimit, support)
    turn = 2 * np.pi * np.arange(2 * bandlimit) / (2 * bandlimit)
    alpha, beta, gamma = np.meshgrid(turn, np.arccos(z), turn, indexing="ij")
    angles = np.stack([alpha, beta, gamma], axis=-1).reshape(-1, 3)
    degrees, _, _ = block_indices(bandlimit)
    functions = real_wigner_table(bandlimit, angles) * np.sqrt(2 * degrees + 1)
    each = np.broadcast_to(weights[:, None] / len(turn) ** 2, (len(turn), len(z), len(turn)))
    return _root(functions, each.ravel())


@lru_cache(maxsize=32)
def improper_root(bandlimit: int, support: float) -> Float[np.ndarray, "p p"]:
    """The same for filters on the rotations times the inversion, r P, which move the pole to -r o.

    The half turn F about x does that too: r F is in the support of ``convolution_root`` where r P is in this one, and
    D(r F^-1) is D(r) with its columns' signs.
    """
    half_turn = np.diag([1.0, -1.0, -1.0])
    signs = np.concatenate([np.sign(np.diag(real_wigner_D(degree, half_turn)[0])) for degree in range(bandlimit)])
    _, _, columns = block_indices(bandlimit)
    return convolution_root(bandlimit, support) * signs[columns][:, None]


def _heights(bandlimit: int, support: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points in cos(angle) on the cap, exact for products of two functions; weights sum to one."""
    z, weights = np.polynomial.legendre.leggauss(2 * bandlimit)
    low = np.cos(support)
    return low + (1 - low) * (z + 1) / 2, weights / 2


def _root(functions: Float[np.ndarray, "x p"], weights: Float[np.ndarray, " x"]) -> Float[np.ndarray, "p p"]:
    covariance = functions.T @ (functions * weights[:, None])
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.clip(values, 0, None))
