r"""Which parts of the training inputs induce: parts are atoms for molecules, and inputs themselves elsewhere.

Farthest points are those of the kernel's own metric, d(x, z)^2 = k(x, x) - 2 k(x, z) + k(z, z), as some random landmarks see
it: in the coordinates k(x, L) k(L, L)^(-T/2), an isometry on the landmarks' span, which costs as many kernels as there are
landmarks in place of as many as are chosen. Pivoted Cholesky takes the part with the largest variance left, on candidates
drawn at random, several for each that is chosen. Parts of unlike kind have no kernel with each other, and each kind has
its share of the inducing parts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from so3ntk.learning.inducing.whitening import Whitening
from so3ntk.learning.ridge import EPS

#: Landmarks of each kind, and candidates of Cholesky for each part chosen.
LANDMARKS, CANDIDATES = 128, 3
#: The least of a kind, where it has as many.
LEAST = 8

#: The kernels of parts by their indices, (a, b).
Kernel = Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "a b"]]


def shares(counts: Int[np.ndarray, " kinds"], total: int) -> Int[np.ndarray, " kinds"]:
    """How many of each kind, ``total`` in all: ``LEAST`` of each or all of them, beyond these by the highest averages."""
    chosen = np.minimum(counts, min(LEAST, total // len(counts)))
    while chosen.sum() < total:
        chosen[np.argmax(np.where(chosen < counts, counts / (chosen + 1), -1))] += 1
    return chosen


def farthest(kernel: Kernel, parts: Int[np.ndarray, " n"], count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` of some parts of one kind, each the farthest from those before it; the first one is drawn."""
    landmarks = np.sort(random.choice(parts, min(LANDMARKS, len(parts)), replace=False))
    white = Whitening.of(kernel(landmarks, landmarks), "selection")
    places = white.features(kernel(parts, landmarks))
    return parts[farthest_points(places, count, int(random.integers(len(parts))))]


def farthest_points(places: Float[np.ndarray, "n d"], count: int, first: int) -> Int[np.ndarray, " count"]:
    """The indices of points, each the farthest from those before it."""
    places = places.astype(np.float32)  # which of many points comes next is no matter of digits, and half the bytes
    squares = np.einsum("ij,ij->i", places, places)
    chosen, distance = [first], np.full(len(places), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        distance = np.minimum(distance, squares - 2 * places @ places[last] + squares[last])
        distance[chosen] = -np.inf
        chosen.append(int(np.argmax(distance)))
    return np.array(chosen)


def by_cholesky(kernel: Kernel, parts: Int[np.ndarray, " n"], count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` of some parts of one kind, each with the largest variance that those before it leave."""
    drawn = np.sort(random.choice(parts, min(CANDIDATES * count, len(parts)), replace=False))
    matrix = kernel(drawn, drawn)
    return drawn[pivots(matrix, count)]


def pivots(matrix: Float[np.ndarray, "n n"], count: int) -> Int[np.ndarray, " count"]:
    """The first rows of a Cholesky decomposition with complete pivoting."""
    left = np.diag(matrix).astype(np.float64)
    nothing = len(matrix) * EPS * float(left.max())
    factor, chosen = np.zeros((count, len(matrix))), []
    for step in range(count):
        left[chosen] = -np.inf
        pivot = int(np.argmax(left))
        chosen.append(pivot)
        if left[pivot] > nothing:  # else all that are left are explained, and any will do
            factor[step] = (matrix[pivot] - factor[:step, pivot] @ factor[:step]) / np.sqrt(left[pivot])
            left = left - factor[step] ** 2
    return np.array(chosen)


def at_random(kernel: Kernel, parts: Int[np.ndarray, " n"], count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` of some parts."""
    return random.choice(parts, count, replace=False)


SELECTIONS = {"farthest": farthest, "cholesky": by_cholesky, "random": at_random}
