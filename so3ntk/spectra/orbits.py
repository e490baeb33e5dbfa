r"""The orbit of a signal under a group, and the irreps of functions on it.

A kernel that is invariant when both signals are moved gives K_r(f, f') = K(f, rho(r) f') for motions r. On functions y_i(s) of the
moved signals rho(s) f_i the kernel acts as a convolution,

.. math:: (T y)_i(r) = \sum_j \int K_{r^{-1} s}(f_i, f_j)\, y_j(s)\, ds, \qquad
          G_{ij} = \int D(r)\, K_r(f_i, f_j)\, dr,

so that with y_j(s) = sum_mn Y^j_mn D_mn(s) the block Gram matrix G of each irrep D acts on (j, n), and m is a spectator:
each eigenvalue of G comes as often as D has rows. Motions from the left, y(h r), act on m alone: a kernel that is averaged over a
subgroup keeps the rows that the subgroup leaves as they are, and their eigenvalues do not change.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float, Num

from planar.augmentation import ImageMotions
from planar.groups import GROUPS
from so3ntk.engine.network import Network
from so3ntk.sphere.haar import RotationGrid
from so3ntk.sphere.irreps import Irrep
from so3ntk.sphere.quadrature import LocalGrid
from so3ntk.sphere.rotations import matrices_of, real_wigner_D
from so3ntk.sphere.signals import SphereSignal, rotate

Blocks = Num[np.ndarray, "n m d d"]


@dataclass(frozen=True)
class Kind:
    """One irrep, or on images all those of one orbit of wave vectors. label: how it is named; size: rows of its matrices;
    copies: how often each eigenvalue of its block Gram matrix comes among functions on the orbit; key: what the orbit
    makes its matrices of; trivial: whether constants are among its functions."""

    label: str
    size: int
    copies: int
    key: Any
    trivial: bool


class Orbit(ABC):
    """The motions of a group, sampled or all of them, with weights that sum to one."""

    weights: Float[np.ndarray, " r"]
    kinds: tuple[Kind, ...]
    #: Whether the weights are those of all elements of a finite group, without the error of a quadrature.
    exact: bool

    @abstractmethod
    def matrices(self, kind: Kind) -> Num[np.ndarray, "r d d"]:
        """D(r) of each motion: unitary."""

    @abstractmethod
    def moved(self, x: Any) -> Any:
        """All signals under each motion, signal by signal."""

    @abstractmethod
    def fields(self, net: Network, x1: Any, x2: Any, get: str) -> Float[np.ndarray, "n m r"]:
        """The kernel of a network that ends in features on the group, at these motions, its mean over positions."""

    @abstractmethod
    def row_projection(self, kind: Kind, subgroup: Any) -> Num[np.ndarray, "d d"]:
        """The mean of D over a finite subgroup, on the rows: what averaging over it keeps."""

    def blocks(self, field: Float[np.ndarray, "n m r"], kind: Kind) -> Blocks:
        """G_ij of the formula."""
        return np.einsum("ijr,rab->ijab", field * self.weights, self.matrices(kind), optimize=True)

    def coefficients(self, values: Float[np.ndarray, "n r"], kind: Kind) -> Num[np.ndarray, "n d d"]:
        """int D(s)* y_j(s) ds of a function on the orbits; the mean of its square is the sum over kinds of copies |.|^2."""
        return np.einsum("jr,rmn->jmn", values * self.weights, self.matrices(kind).conj(), optimize=True)


class Rotations(Orbit):
    """SO(3), or O(3) with the inversion: irreps of each degree below a bandlimit, for O(3) of both parities."""

    exact = False

    def __init__(self, grid: RotationGrid | LocalGrid, bandlimit: int, reflections: bool):
        self.grid, self._reflections = grid, reflections
        self._rotations = grid.rotations if isinstance(grid, LocalGrid) else grid
        weights = self._rotations.weights
        self.weights = np.tile(weights, 2) / 2 if reflections else weights
        kinds = []
        for degree in range(bandlimit):
            for parity in (1, -1) if reflections else (None,):
                irrep = Irrep(degree, parity)
                label = f"l={degree}" if parity is None else f"l={degree} {'+' if parity > 0 else '-'}"
                kinds.append(Kind(label, irrep.size, irrep.size, irrep, irrep.is_trivial))
        self.kinds = tuple(kinds)

    def matrices(self, kind: Kind) -> Float[np.ndarray, "r d d"]:
        """Those of real harmonics, with the parity's sign on the rotations times the inversion."""
        proper = self._wigner[kind.key.degree]
        return np.concatenate([proper, kind.key.sign * proper]) if self._reflections else proper

    @cached_property
    def _wigner(self) -> list[np.ndarray]:
        rotations = self._rotations.rotations
        return [real_wigner_D(degree, rotations) for degree in sorted({kind.key.degree for kind in self.kinds})]

    def moved(self, x: SphereSignal) -> SphereSignal:
        """Rotated, signal by signal. ValueError for mirror images, which networks of O(3) have as fields."""
        if self._reflections:
            raise ValueError('irrep_spectrum: group="O3" takes a network that lifts with it, Lift(group="O3").')
        rotations = self._rotations.rotations.as_matrix()
        repeated = x[np.repeat(np.arange(len(x)), len(rotations))]
        return rotate(repeated, np.tile(rotations, (len(x), 1, 1)))

    def fields(self, net: Network, x1: Any, x2: Any, get: str) -> Float[np.ndarray, "n m r"]:
        """On the grid; with caps averaged over positions."""
        found = net.kernel_fn(x1, x2, (get,))
        values = np.asarray(getattr(found, get), np.float64)
        return values @ self.grid.positions.weights if isinstance(self.grid, LocalGrid) else values

    def row_projection(self, kind: Kind, subgroup: Any) -> Float[np.ndarray, "d d"]:
        """Of rotations, as scipy's or matrices."""
        return real_wigner_D(kind.key.degree, matrices_of(subgroup)).mean(axis=0)


class RotoTranslations(Orbit):
    r"""All shifts of a torus and the elements h of a group of turns and reflections, [rho(h, d) f](x) = (h f)(x + d).

    For each orbit of wave vectors w under the group the representation on functions of its elements k,

    .. math:: D_{k k'}(h, d) = e^{i (k w) \cdot d}\, [k = h k'],

    irreducible where w is fixed by the identity alone, else the sum of the irreps of the orbit.
    """

    exact = True

    def __init__(self, group: str, size: tuple[int, int]):
        self.group, self.size = group, size
        self._elements = GROUPS[group]
        rows, columns = size
        self._displacements = np.array(list(product(range(rows), range(columns))))
        count = len(self._elements) * rows * columns
        self.weights = np.full(count, 1 / count)
        kinds, seen = [], set()
        for wave in sorted(product(range(rows), range(columns)), key=self._length):
            if wave in seen:
                continue
            orbit = {self._turned(element, wave) for element in self._elements}
            seen |= orbit
            kinds.append(Kind(str(self._centred(wave)), len(self._elements), len(orbit), wave, wave == (0, 0)))
        self.kinds = tuple(kinds)

    def matrices(self, kind: Kind) -> Complex[np.ndarray, "r d d"]:
        """The formula; motions in the order (element, displacement)."""
        waves = self._waves(kind)
        phases = np.exp(2j * np.pi * (self._displacements * waves[:, None]).sum(axis=2))  # (k, d)
        return np.concatenate([phases.T[:, :, None] * self._permutation(element) for element in self._elements])

    def moved(self, x: Any) -> jax.Array:
        """Turned or reflected, then shifted by -d."""
        shifts = [
            (element, tuple(int(-d) for d in shift)) for element in self._elements for shift in self._displacements
        ]
        motions = ImageMotions([(turns, mirrored, shift) for (turns, mirrored), shift in shifts], size=self.size)
        return jnp.stack([motions.move(x, i) for i in range(len(motions))], axis=1).reshape(-1, *np.shape(x)[1:])

    def fields(self, net: Network, x1: Any, x2: Any, get: str) -> Float[np.ndarray, "n m r"]:
        """At all motions; with windows averaged over positions."""
        values = np.asarray(getattr(net.kernel_fn(x1, x2, (get,)), get), np.float64)
        values = values.mean(axis=(5, 6)) if values.ndim == 7 else values
        if values.shape[3:] != self.size:
            raise ValueError(
                f"irrep_spectrum: the field has {values.shape[3]} x {values.shape[4]} displacements for images of "
                f"{self.size[0]} x {self.size[1]} pixels: AvgPool and padding 'VALID' change the lattice. Give the network before it."
            )
        return values.reshape(*values.shape[:2], -1)

    def row_projection(self, kind: Kind, subgroup: Any) -> Complex[np.ndarray, "d d"]:
        """Of ``planar.motions``, a group of shifts, turns and reflections."""
        total, waves = np.zeros((kind.size, kind.size), complex), self._waves(kind)
        for turns, mirrored, shift in subgroup.motions:
            phases = np.exp(-2j * np.pi * (waves @ np.array(shift)))  # a shift by s is d = -s
            total += phases[:, None] * self._permutation((turns % 4, bool(mirrored)))
        return total / len(subgroup.motions)

    def element_projections(self) -> dict[str, Complex[np.ndarray, "d d"]]:
        """For each irrep of the group of turns and reflections, on functions of its elements, the projection on it."""
        order, found = len(self._elements), {}
        for name, (dimension, character) in _characters(self.group).items():
            parts = [np.conj(character(*element)) * self._permutation(element) for element in self._elements]
            found[name] = dimension / order * np.sum(parts, axis=0).astype(complex)
        return found

    def _permutation(self, h: tuple[int, bool]) -> Float[np.ndarray, "d d"]:
        """[k = h k']."""
        found = np.zeros((len(self._elements), len(self._elements)))
        for k_before, before in enumerate(self._elements):
            found[self._elements.index(_product(h, before)), k_before] = 1
        return found

    def _waves(self, kind: Kind) -> Float[np.ndarray, "d 2"]:
        """k w for each element k, in periods a pixel."""
        return np.array([self._turned(element, kind.key) for element in self._elements]) / np.array(self.size)

    def _centred(self, wave: tuple[int, int]) -> tuple[int, ...]:
        """The smallest in size of the same numbers modulo the image's sides."""
        return tuple(min(k, k - n, key=abs) for k, n in zip(wave, self.size, strict=True))

    def _length(self, wave: tuple[int, int]) -> tuple:
        centred = self._centred(wave)
        return sum((k / n) ** 2 for k, n in zip(centred, self.size, strict=True)), tuple(-k for k in centred)

    def _turned(self, element: tuple[int, bool], wave: tuple[int, int]) -> tuple[int, int]:
        """R_h w modulo the image's sides: M reverses columns, a quarter turn maps (a, b) to (-b, a)."""
        a, b = wave
        b = -b if element[1] else b
        for _ in range(element[0]):
            a, b = -b, a
        return a % self.size[0], b % self.size[1]


def _product(first: tuple[int, bool], second: tuple[int, bool]) -> tuple[int, bool]:
    """R^k M^m R^k' M^m'."""
    turns = first[0] + (-second[0] if first[1] else second[0])
    return turns % 4, first[1] ^ second[1]


def _characters(group: str) -> dict[str, tuple[int, Any]]:
    """Dimension and character, of (turns, mirrored), of each irrep."""
    if group == "D4":
        return {
            "A1": (1, lambda k, m: 1),
            "A2": (1, lambda k, m: (-1) ** m),
            "B1": (1, lambda k, m: (-1) ** k),
            "B2": (1, lambda k, m: (-1) ** (k + m)),
            "E": (2, lambda k, m: 0 if m else round(2 * math.cos(math.pi * k / 2))),
        }
    return {str(j): (1, lambda k, m, j=j: np.exp(0.5j * np.pi * j * k)) for j in range(len(GROUPS[group]))}
