r"""Kernels of low degree as inner products of features, so that sums over the parts of inputs cost next to nothing.

A tower that is a polynomial in the correlation x (``polynomial``) of degree at most two, with coefficients that are the same
for all pairs, has

.. math:: \int p_0 + p_1 x_r + p_2 x_r^2\, dr = p_0 + p_1\, u(f) \cdot u(g) + p_2\, v(f) \cdot v(g)

with features of each signal alone (``Geometry.moments``); on the sphere the coefficients of degree 0, and power spectra. The sum
over pairs of parts of two inputs is the inner product of the inputs' sums: 1,000 molecules take 1,000 such vectors for each
element, where there are 10^8 pairs of atoms. Inner products are summed in float64, whatever the signals are.

The blocks :math:`\int D(r)\,(p_0 + p_1 x_r + p_2 x_r^2)\, dr` of an irrep are inner products of vectors and tensors, one for each pair
of components; p_0 belongs to the trivial irrep alone.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from so3ntk.basics.double import double_precision
from so3ntk.engine.demand import polynomial_degree_of, readout_of
from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.evaluation.polynomial import Powers, tower_polynomials
from so3ntk.engine.geometry import Geometry
from so3ntk.engine.irrep import Irrep
from so3ntk.engine.layers.base import Layer, is_traced
from so3ntk.engine.layers.combinators import Identity
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.sizes import on_gpu

#: Inputs of one dispatch to the device, of which there are few shapes, and values of their signals.
FEW, INPUTS, VALUES = 8, 64, 2**22
NAMES = ("nngp", "ntk")


class Moments(NamedTuple):
    """Of n inputs, which they are, how many parts of a kind they have, and the sums of u and v over these.

    Of irreps of m components u and v have m rows for each input.
    """

    inputs: Int[np.ndarray, " n"]
    counts: Int[np.ndarray, " n"]
    u: Float[np.ndarray, "nm k"]
    v: Float[np.ndarray, "nm q"]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMap:
    """The kernels of a network as inner products. coefficients: p_0, p_1, p_2 by kernel. width: of both features together, in all
    components. readout: of an irrep, whose blocks the kernels are; None where they are numbers."""

    geometry: Geometry
    coefficients: dict[str, Float[np.ndarray, " j"]]
    width: int
    readout: Readout | None = None

    @property
    def irrep(self) -> Irrep | None:
        """What the features are components of; None for numbers."""
        return None if self.readout is None else self.readout.irrep

    @property
    def components(self) -> int:
        """Rows of features for each input."""
        return 1 if self.irrep is None else self.irrep.size

    def bytes_per_input(self, itemsize: int) -> int:
        """Of features, with copies in float64 and of the program that makes them."""
        return self.width * (2 * itemsize + 8)

    def features(self, signals: Any, parts: Int[np.ndarray, " a"], owner: Int[np.ndarray, " b"]) -> Moments:
        """Those of the inputs that own some of the signals, ``parts``; owner: of all signals, ascending."""
        inputs, first, counts = np.unique(owner[parts], return_index=True, return_counts=True)
        most = 4 ** math.ceil((int(counts.max()) - 1).bit_length() / 2)  # of few sizes: each is a program
        leaves = jax.tree.leaves(signals)
        each = max(self.width, most * sum(int(np.prod(leaf.shape[1:])) for leaf in leaves))
        step = max(1, min(FEW if len(first) <= FEW else INPUTS, VALUES // max(each, 1)))
        step = 2 ** (step.bit_length() - 1)
        found = []
        for start in range(0, len(first), step):
            rows = slice(start, start + step)
            missing = step - len(first[rows])
            places = np.pad(first[rows], (0, missing))[:, None] + np.arange(most)
            held = np.arange(most) < np.pad(counts[rows], (0, missing))[:, None]
            chosen = parts[np.where(held, places, 0)]
            values = _moments(self.geometry, jax.tree.map(lambda a, c=chosen: a[c], signals), held, self.irrep)
            found.append([np.asarray(value)[: step - missing] for value in values])
        u, v = (np.concatenate(each) for each in zip(*found, strict=True))
        rows = len(inputs) * self.components
        return Moments(inputs, counts, u.reshape(rows, u.shape[-1]), v.reshape(rows, v.shape[-1]))

    def kernels(self, names: tuple[str, ...], a: Moments, b: Moments) -> list[Float[np.ndarray, "n m ..."]]:
        """The kernels of the inputs of a with those of b."""
        pairs = np.multiply.outer(a.counts, b.counts).astype(np.float64)
        means, squares = self._blocks(inner_products(a.u, b.u)), None
        if any(self.coefficients[name][2] for name in names):
            squares = self._blocks(inner_products(a.v, b.v))
        return [self._kernel(name, pairs, means, squares) for name in names]

    def diagonal(self, names: tuple[str, ...], a: Moments) -> list[Float[np.ndarray, "n ..."]]:
        """The kernels of the inputs with themselves."""
        each = (k.reshape(len(a.inputs), self.components, k.shape[1]) for k in (a.u, a.v))
        means, squares = (np.einsum("iaj,ibj->iab", k, k, dtype=np.float64) for k in each)
        if self.irrep is None:
            means, squares = means[:, 0, 0], squares[:, 0, 0]
        return [self._kernel(name, np.square(a.counts.astype(np.float64)), means, squares) for name in names]

    def _blocks(self, products: Float[np.ndarray, "nm km"]) -> Float[np.ndarray, "n k ..."]:
        """Inner products by inputs, and components last."""
        if self.irrep is None:
            return products
        n, m = (side // self.components for side in products.shape)
        return products.reshape(n, self.components, m, self.components).transpose(0, 2, 1, 3)

    def _kernel(self, name: str, pairs: np.ndarray, means: np.ndarray, squares: np.ndarray | None) -> np.ndarray:
        """p_0 pairs + p_1 means + p_2 squares, in the basis of the readout."""
        p0, p1, p2 = self.coefficients[name].tolist()
        kernel = p1 * means
        if self.irrep is None or self.irrep.is_trivial:
            kernel = p0 * pairs.reshape(pairs.shape + (1,) * (means.ndim - pairs.ndim)) + kernel
        kernel = kernel if squares is None else kernel + p2 * squares
        if self.readout is None:
            return kernel
        with double_precision():
            return np.asarray(self.readout.finish(kernel))


@eqx.filter_jit
def _moments(geometry: Geometry, signals: Any, held: Array, irrep: Irrep | None) -> tuple[Array, Array]:
    def one(signal, held):
        some = jax.tree.map(lambda a: jnp.where(held.reshape(-1, *(1,) * (a.ndim - 1)), a, 0), signal)
        return geometry.moments(some) if irrep is None else geometry.moments(some, irrep)

    return jax.vmap(one)(signals, jnp.asarray(held))


def inner_products(a: Float[np.ndarray, "n q"], b: Float[np.ndarray, "m q"]) -> Float[np.ndarray, "n m"]:
    """a b^T in float64: on processors by NumPy's BLAS, which is three times as fast there as XLA."""
    if not on_gpu():
        left = a.astype(np.float64, copy=False)
        return left @ (left if b is a else b.astype(np.float64, copy=False)).T
    with double_precision():
        left, right = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
        return np.asarray(jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST))


def feature_map(layers: tuple[Layer, ...], evaluation: Evaluation, f: Any, g: Any, summed: bool) -> FeatureMap | None:
    """How a network's kernels are inner products; None if they are not, or if pairs cost less. summed: over parts."""
    if is_traced((layers, f, g)) or not isinstance(evaluation, Powers):
        return None
    if not all(isinstance(layer, Dense | Identity) for layer in layers[evaluation.span :]):
        return None
    degree, readout, lift = polynomial_degree_of(layers), readout_of(layers), cast(Any, layers[0])
    if degree is None or degree > 2 or readout is None:
        return None
    signal, irrep = jax.tree.map(lambda a: a[0], f), readout.irrep
    if not lift.geometry(evaluation.motions).moments_pay(signal, summed, irrep):
        return None
    coefficients = _coefficients(layers, signal)
    if coefficients is None:
        return None
    geometry = lift.geometry(None)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, 1, *a.shape), a.dtype), signal)
    # Through what is compiled, which JAX traces once for each shape and not at each call
    shapes = eqx.filter_eval_shape(_moments, geometry, one, np.ones((1, 1), bool), irrep)
    width = sum(shape.size for shape in shapes)
    return FeatureMap(geometry, coefficients, width, None if irrep is None else readout)


def _coefficients(layers: tuple[Layer, ...], signal: Any) -> dict[str, Float[np.ndarray, " j"]] | None:
    """p_0, p_1, p_2 of each kernel; None if they depend on the signals, as by their variances."""
    none, ones = (jax.tree.map(lambda a, k=k: np.full_like(a, k), signal) for k in (0, 1))
    first, second = (np.asarray(_polynomials(layers, one, one), np.float64) for one in (none, ones))
    if not np.array_equal(first, second):
        return None
    padded = np.pad(first, ((0, 0), (0, max(0, 3 - first.shape[1]))))
    return dict(zip(NAMES, padded, strict=True))


@eqx.filter_jit
def _polynomials(layers: tuple[Layer, ...], f: Any, g: Any) -> Float[Array, "2 k"]:
    return tower_polynomials(layers, f, g, NAMES)
