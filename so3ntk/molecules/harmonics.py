r"""Real spherical harmonics of directions, as polynomials in the unit vector: differentiable, with no poles.

With (x, y, z) the unit vector and (x + iy)^m = A_m + i B_m, the harmonics of :mod:`so3ntk.sphere.rotations` are

.. math:: Y_{lm} = \sqrt 2\, Q_{lm}(z) A_m \ (m > 0), \quad Y_{l0} = Q_{l0}(z), \quad
          Y_{lm} = \sqrt 2\, Q_{l|m|}(z) B_{|m|} \ (m < 0),

where Q_lm(z) is the normalised associated Legendre function over sin(theta)^m: the Condon-Shortley phase
cancels the sign (-1)^m of the real basis, and what is left has no angle in it and no square root of 1 - z^2.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arrays import ArrayLike
from so3ntk.sphere.rotations import check_bandlimit


def real_harmonics(vectors: ArrayLike, bandlimit: int) -> Float[Array, "*batch lm"]:
    r"""Y_lm of the directions of vectors (..., 3), l < bandlimit, at the flat index l^2 + l + m.

    .. math:: Q_{lm} = a_{lm} (z\, Q_{l-1,m} - b_{lm} Q_{l-2,m}) \ (m < l), \qquad
              Q_{ll} = \sqrt{\tfrac{2l+1}{2l}}\, Q_{l-1,l-1}, \qquad Q_{00} = 1 / \sqrt{4\pi},

    a_lm^2 = (4 l^2 - 1) / (l^2 - m^2), b_lm^2 = ((l-1)^2 - m^2) / (4 (l-1)^2 - 1): stable upwards in l.
    Smooth in the vectors, poles included; the zero vector has no direction, and NaN from l = 1 on. In the
    dtype of the vectors; in float64 accurate to 1e-13 for bandlimits up to 32.
    Raises ValueError for vectors that are not (..., 3) and for a bandlimit outside 1 to 64.
    Source: Holmes & Featherstone, J. Geodesy 76 (2002), the "modified forward column" recursion.
    """
    bandlimit = check_bandlimit(bandlimit, "real_harmonics")
    vectors = jnp.asarray(vectors)
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise ValueError(f"real_harmonics: expected vectors (..., 3), got an array of shape {vectors.shape}.")
    flat = _harmonics(vectors.reshape(-1, 3), bandlimit)
    return flat.reshape(*vectors.shape[:-1], bandlimit**2)


@partial(jax.jit, static_argnames="bandlimit")
def _harmonics(vectors: Float[Array, "n 3"], bandlimit: int) -> Float[Array, "n lm"]:
    """One step of a scan for each degree: what is compiled does not grow with the bandlimit."""
    x, y, z = (vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)).T
    tables = tuple(jnp.asarray(table[..., None], z.dtype) for table in _recursion(bandlimit))

    def step(carry, row):
        last, two_back, real, imaginary = carry
        a, b, diagonal = row
        q = a * (z * last - b * two_back) + diagonal
        return (q, last, x * real - y * imaginary, x * imaginary + y * real), (q, real, imaginary)

    none = jnp.zeros((bandlimit, len(vectors)), z.dtype)
    start = (none, none, jnp.ones_like(z), jnp.zeros_like(z))
    _, (legendre, cosines, sines) = jax.lax.scan(step, start, tables)
    root = math.sqrt(2)  # a Python float: NumPy's would turn float32 into float64
    # m = 1 - L, ..., L - 1
    azimuthal = jnp.concatenate([root * sines[:0:-1], cosines[:1], root * cosines[1:]])
    degree = np.repeat(np.arange(bandlimit), 2 * np.arange(bandlimit) + 1)
    m = np.arange(bandlimit**2) - degree * (degree + 1)
    return (legendre[degree, np.abs(m)] * azimuthal[m + bandlimit - 1]).T


@lru_cache(maxsize=64)
def _recursion(bandlimit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a_lm and b_lm, zero for m >= l where the recursion does not reach, and Q_ll on a diagonal: (L, L)."""
    a, b, diagonal = np.zeros((3, bandlimit, bandlimit))
    diagonal[0, 0] = 1 / math.sqrt(4 * math.pi)
    for degree in range(1, bandlimit):
        m = np.arange(degree)
        a[degree, :degree] = np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
        b[degree, :degree] = np.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
        diagonal[degree, degree] = diagonal[degree - 1, degree - 1] * math.sqrt((2 * degree + 1) / (2 * degree))
    return a, b, diagonal
