r"""Products of two signals' degrees as components of a third one: what squares of a correlation hold of each irrep.

With the correlation K_r = sum_l sum_mn K^l_mn D^l_mn(r) and real Clebsch-Gordan coefficients, normalised as one unit tensor C,

.. math:: \int D^L_{MN}\, D^{p}_{mn}\, D^{q}_{m'n'}\, dr = C_{Mmm'}\, C_{Nnn'}, \qquad
          \int D^L_{MN}(r)\, K_r^2\, dr = \sum_{pq} \sum_{cc'} v^{pq}_{cc'M}(f)\, v^{pq}_{cc'N}(f'), \qquad
          v^{pq}_{cc'M}(f) = \sum_{mm'} C_{Mmm'}\, a^c_{pm}\, a^{c'}_{qm'},

vectors and tensors of each signal alone. Improper motions multiply a term by (-1)^(p + q): an irrep of parity s of O(3) keeps those with
(-1)^(p + q) = s.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.sphere.rotations import real_from_complex


@lru_cache(maxsize=1024)
def coupling(degree: int, first: int, second: int) -> Float[np.ndarray, "k m n"]:
    """The invariant tensor of three degrees in the basis of real harmonics, of unit norm; they must fulfil the triangle's
    inequality. Its sign is that of the complex Clebsch-Gordan coefficients, or of these times -i where degrees sum to an odd number."""
    left, middle, right = (real_from_complex(k) for k in (degree, first, second))
    complex_one = _clebsch_gordan(degree, first, second)
    tensor = np.einsum("MN,Nmn,am,bn->Mab", left.conj(), complex_one, middle, right, optimize=True)
    tensor = tensor.imag if (degree + first + second) % 2 else tensor.real
    tensor = tensor / np.sqrt(2 * degree + 1)
    tensor.flags.writeable = False
    return tensor


def coupled_degrees(degree: int, bandlimit: int, sign: int | None) -> list[tuple[int, int]]:
    """The degrees p <= q whose product holds a third one, and for a sign those with (-1)^(p + q) equal to it."""
    return [
        (p, q)
        for p in range(bandlimit)
        for q in range(p, bandlimit)
        if q - p <= degree <= p + q and sign in (None, (-1) ** (p + q))
    ]


def coupled_count(degree: int, bandlimit: int, channels: int, sign: int | None) -> int:
    """How many components of one degree ``coupled_squares`` has."""
    same = channels * (channels + (-1) ** degree) // 2
    return sum(same if p == q else channels**2 for p, q in coupled_degrees(degree, bandlimit, sign))


def coupled_squares(signals: Float[Array, "a p c"], degree: int, sign: int | None) -> Float[Array, "m q"]:
    """v of a sum of signals: exchanged degrees and channels are the same feature up to a sign, and are there once."""
    channels, bandlimit = signals.shape[2], round(np.sqrt(signals.shape[1]))
    found = [jnp.zeros((2 * degree + 1, 0), signals.dtype)]
    for p, q in coupled_degrees(degree, bandlimit, sign):
        left, right = (signals[:, k**2 : (k + 1) ** 2] for k in (p, q))
        tensor = jnp.asarray(coupling(degree, p, q), signals.dtype)
        turned = jnp.einsum("Mmn,and->amMd", tensor, right, precision=jax.lax.Precision.HIGHEST)
        product = jnp.dot(
            left.reshape(-1, channels).T,
            turned.reshape(-1, (2 * degree + 1) * channels),
            precision=jax.lax.Precision.HIGHEST,
        )
        each = jnp.moveaxis(product.reshape(channels, 2 * degree + 1, channels), 1, 0)
        if p == q:  # symmetric in the channels for an even degree, antisymmetric for an odd one
            rows, columns = np.triu_indices(channels, degree % 2)
            weights = np.where(rows == columns, 1, np.sqrt(2))
            found.append(each[:, rows, columns] * jnp.asarray(weights, signals.dtype))
        else:
            found.append(each.reshape(2 * degree + 1, -1) * np.sqrt(2).astype(signals.dtype))
    return jnp.concatenate(found, axis=1)


def _clebsch_gordan(degree: int, first: int, second: int) -> Float[np.ndarray, "k m n"]:
    """<l1 m1 l2 m2 | L M>, by Racah's formula in exact integers. Source: Varshalovich et al. (1988), 8.2.1."""
    values = np.zeros((2 * degree + 1, 2 * first + 1, 2 * second + 1))
    if not abs(first - second) <= degree <= first + second:
        raise ValueError(f"coupling: {degree}, {first} and {second} do not fulfil the triangle's inequality.")
    triangle = Fraction(
        (2 * degree + 1) * factorial(degree + first - second) * factorial(degree - first + second) * factorial(first + second - degree),
        factorial(first + second + degree + 1),
    )  # fmt: skip
    for m in range(-first, first + 1):
        for n in range(-second, second + 1):
            if abs(m + n) <= degree:
                values[m + n + degree, m + first, n + second] = _coefficient(triangle, degree, first, m, second, n)
    return values


def _coefficient(triangle: Fraction, degree: int, first: int, m: int, second: int, n: int) -> float:
    total, last = Fraction(0), first + second - degree
    for k in range(last + 1):
        numbers = (k, last - k, first - m - k, second + n - k, degree - second + m + k, degree - first - n + k)
        if min(numbers) >= 0:
            total += Fraction((-1) ** k, math.prod(map(factorial, numbers)))
    ends = ((degree, m + n), (first, m), (second, n))
    square = triangle * total**2 * math.prod(factorial(j + k) * factorial(j - k) for j, k in ends)
    return math.copysign(math.sqrt(square), total)
