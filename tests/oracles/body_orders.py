r"""Means over rotations of powers of a kernel in closed form: body orders one to four, by Clebsch-Gordan coefficients.

No grid: with K_r = sum K^l_mn D^l_mn(r) and w the coupling of three degrees to an invariant,

.. math:: \int D^{l_1} \otimes D^{l_2} \otimes D^{l_3} = w w^\dagger, \qquad
          \langle K\rangle = K^0, \quad \langle K^2\rangle = \sum_l \frac{|K^l|^2}{2l+1}, \quad
          \langle K^3\rangle = \sum_{l_1 l_2 l_3} w^\dagger\, (K^{l_1} \otimes K^{l_2} \otimes K^{l_3})\, w,

and the blocks of K^2 in the same way give the fourth. w is Wigner's 3j symbol (Racah's sum) in the basis of real harmonics.
Source: Varshalovich, Moskalev, Khersonskii (1988), chapters 4 and 8.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial, sqrt

import numpy as np


def three_j(l1: int, l2: int, l3: int, m1: int, m2: int, m3: int) -> float:
    """Wigner's 3j symbol of integers."""
    if m1 + m2 + m3 or not abs(l1 - l2) <= l3 <= l1 + l2 or any(abs(m) > d for m, d in ((m1, l1), (m2, l2), (m3, l3))):
        return 0.0
    triangle = (
        factorial(l1 + l2 - l3) * factorial(l1 - l2 + l3) * factorial(-l1 + l2 + l3) / factorial(l1 + l2 + l3 + 1)
    )
    root = sqrt(triangle) * np.prod(
        [sqrt(factorial(d + m) * factorial(d - m)) for d, m in ((l1, m1), (l2, m2), (l3, m3))]
    )
    total = 0.0
    for k in range(l1 + l2 + l3 + 1):
        below = (k, l1 + l2 - l3 - k, l1 - m1 - k, l2 + m2 - k, l3 - l2 + m1 + k, l3 - l1 - m2 + k)
        if min(below) >= 0:
            total += (-1) ** k / np.prod([float(factorial(n)) for n in below])
    return (-1) ** (l1 - l2 - m3) * root * total


def real_from_complex(degree: int) -> np.ndarray:
    """U with Y_real = U Y, rows and columns m = -l..l."""
    change = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    for m in range(-degree, degree + 1):
        row, up, down = degree + m, degree + abs(m), degree - abs(m)
        if m == 0:
            change[row, row] = 1
        elif m > 0:
            change[row, up], change[row, down] = (-1) ** m / sqrt(2), 1 / sqrt(2)
        else:
            change[row, up], change[row, down] = (-1) ** m / (1j * sqrt(2)), -1 / (1j * sqrt(2))
    return change


@lru_cache(maxsize=512)
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """w of the head of this file, (2 l1 + 1, 2 l2 + 1, 2 l3 + 1), complex by a common phase."""
    symbols = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                symbols[l1 + m1, l2 + m2, l3 - m1 - m2] = three_j(l1, l2, l3, m1, m2, -m1 - m2)
    bases = [real_from_complex(degree) for degree in (l1, l2, l3)]
    return np.einsum("ai,bj,ck,ijk->abc", *bases, symbols)


def blocks_of(f: np.ndarray, g: np.ndarray, W_std: float = 1.0, b_std: float = 0.0) -> list[np.ndarray]:
    """K^l of the lifted kernel of two signals (p, c), for l below their bandlimit."""
    bandlimit = round(len(f) ** 0.5)
    blocks = [f[d**2 : (d + 1) ** 2] @ g[d**2 : (d + 1) ** 2].T * W_std**2 / (4 * np.pi * f.shape[1])
              for d in range(bandlimit)]  # fmt: skip
    blocks[0] = blocks[0] + b_std**2
    return blocks


def squared(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """The blocks of K^2."""
    out = []
    for d in range(2 * len(blocks) - 1):
        total = np.zeros((2 * d + 1, 2 * d + 1))
        for l1, first in enumerate(blocks):
            for l2, second in enumerate(blocks):
                if abs(l1 - l2) <= d <= l1 + l2:
                    w = coupling(l1, l2, d)
                    total += np.einsum("abc,ax,by,xyz->cz", w, first, second, w.conj(), optimize=True).real
        out.append((2 * d + 1) * total)
    return out


def body_orders(blocks: list[np.ndarray]) -> np.ndarray:
    """The means of K, K^2, K^3 and K^4 over all rotations."""
    second = squared(blocks)

    def mean_of_product(a, b):
        return sum(np.sum(x * y) / len(x) for x, y in zip(a, b, strict=False))

    return np.array([blocks[0][0, 0], *(mean_of_product(*pair) for pair in
                                        ((blocks, blocks), (blocks, second), (second, second)))])  # fmt: skip
