r"""One period of a deep network, as a map of the kernels of uniform fields.

A deep network repeats a block of layers. Where fields depend on neither position nor motion, a block maps the kernel c of
two inputs, their variances and their tangent kernel,

.. math:: q \leftarrow V(q), \qquad c \leftarrow C(c, q, q'), \qquad \Theta \leftarrow F + \partial_c C\, \Theta .

A perturbation of such a field in one mode, a degree on the sphere or a Fourier mode on images, goes through a filter times
its multiplier w and through a nonlinearity times its slope: the block's Jacobian in the mode, residual branches included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arguments import is_number
from so3ntk.basics.double import double_precision
from so3ntk.engine.demand import homogeneity_of
from so3ntk.engine.filters import Filter
from so3ntk.engine.geometry import Probe
from so3ntk.engine.layers.affine import Affine
from so3ntk.engine.layers.base import Layer, flatten, is_traced
from so3ntk.engine.layers.combinators import Composite, FanOut
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.source import Lifting, Source
from so3ntk.engine.network import Network
from so3ntk.engine.parametrization import check_std
from so3ntk.engine.state import State

#: A kernel or a variance, or an array of them.
Numbers = float | np.floating | Float[np.ndarray, " ..."]
Values = Float[np.ndarray, " ..."]
#: How many variances or kernels are mapped at once: one program for all of them.
POINTS = 1024


class Tangent(NamedTuple):
    """Of Theta <- a(c) + j(c) Theta at a fixed point c of the kernel, where j is the slope of the kernel's map: p = a / (1 - j),
    j, the slope of j, and at Theta = p the first and the second derivative in c."""

    fixed: float
    slope: float
    bend: float
    response: float
    response_bend: float


class Uniform(Probe):
    """Fields that depend on neither position nor motion, with slopes in one mode for each entry of the last axis.

    A filter leaves values as they are, and multiplies their derivatives by its multiplier in the mode.
    filters, multipliers: for each filter of the block its multiplier in each mode.
    """

    filters: tuple[Filter, ...] = eqx.field(static=True, default=())
    multipliers: tuple[Float[Array | np.ndarray, " modes"], ...] = ()

    def average(self, field: Float[Array, " ..."], filter: Filter) -> Float[Array, " ..."]:
        """The same value; its slope times the multiplier."""
        if filter not in self.filters:
            return field
        value = jax.lax.stop_gradient(field)
        return value + self.multipliers[self.filters.index(filter)] * (field - value)

    def average_variance(self, variance: Float[Array, " ..."], filter: Filter) -> Float[Array, " ..."]:
        """The same."""
        return self.average(variance, filter)


class Block:
    """A block of layers, in double precision on this machine; arguments and results are NumPy's.

    where: whose errors these are.
    """

    def __init__(self, layers: Sequence[Layer], where: str):
        self.layers, self.where = tuple(layers), where
        inside = list(flatten(self.layers))
        wrong = [layer for layer in inside if isinstance(layer, Source | Readout) or not hasattr(layer, "pointwise")]
        coupled = [layer for layer in inside if not layer.keeps_variances]
        if wrong or coupled:
            name = type((wrong or coupled)[0]).__name__
            raise ValueError(
                f"{where}: expected a block of layers that acts at each motion alone, and {name} does not: it reads signals, "
                "pools, or couples motions (bandlimit, variances, AvgPool). Pass the block that is repeated, as "
                "serial(Erf(), Dense(W_std=1.2, b_std=0.2))."
            )
        if is_traced(self.layers):
            raise TypeError(
                f"{where}: the hyperparameters are traced by JAX, but fixed points are found on this machine, outside of jit "
                "and grad. Pass numbers."
            )
        for layer in (layer for layer in inside if isinstance(layer, Affine)):
            for name in ("W_std", "b_std"):
                check_deviation(getattr(layer, name), where, name)
        # Arrays, not numbers of Python, which a program would be compiled for one by one
        self.layers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), self.layers)
        self.affine = [layer for layer in flatten(self.layers) if isinstance(layer, Affine)]
        self.smoothness = min((layer.smoothness for layer in self.layers), default=math.inf)
        self.is_linear = not any(layer.uses_variances for layer in inside)
        #: The exponent p of q -> s^p q under scaling, or None where the block has a scale.
        self.homogeneity = homogeneity_of(self.layers)
        self._width = self.affine[-1].width if self.affine else None

    def __repr__(self) -> str:
        return " → ".join(_describe(layer) for layer in self.layers)

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Of its convolutions, each once."""
        found = (getattr(layer, "filter", None) for layer in self.affine)
        return tuple(dict.fromkeys(filter for filter in found if filter is not None))

    def scaled(self, factor: float) -> Block:
        """The block with all its W_std times a number."""
        return Block([_map_affine(layer, lambda a: (a.W_std * factor, a.b_std)) for layer in self.layers], self.where)

    def variance(self, q: Numbers) -> Values:
        """V(q), for at most ``POINTS`` of them."""
        return self._padded(q, q, q, q)[2]

    def kernel(self, c: Numbers, q: Numbers) -> Values:
        """C(c, q, q), likewise."""
        return self._padded(c, c, q, q)[0]

    def after(self, steps: int, c: Values, ntk: Values, q1: Values, q2: Values, rescale: bool = False
              ) -> tuple[Values, Values, Values, Values]:  # fmt: skip
        """Kernel, tangent kernel and variances after so many blocks, of arrays of one shape.

        rescale: divide all of them by a variance after each block, which of blocks that are homogeneous changes no ratio.
        """
        # One row: where layers look at the length of a field it is that of one motion
        start = tuple(np.array(a, np.float64).reshape(1, -1) for a in (c, ntk, q1, q2))
        with double_precision():
            found = _iterated(self.layers, start, np.array(steps), self._width, rescale)
            return tuple(np.asarray(a).reshape(np.shape(c)) for a in found)  # pyright: ignore[reportReturnType]

    def slopes(self, c: float, q: float) -> tuple[float, float]:
        """dC/dc and dV/dq of uniform fields."""
        kernel, variance, *_ = self._response(c, q, np.zeros(3), (), ())
        return float(kernel[0]), float(variance[0])

    def mode_slopes(self, c: float, q: float, multipliers: Sequence[Values]) -> tuple[Values, Values]:
        """dC/dc and dV/dq in each mode, for the multipliers of each of ``filters``."""
        kernel, variance, *_ = self._response(c, q, np.zeros(len(multipliers[0])), self.filters, tuple(multipliers))
        return kernel, variance

    def tangent(self, c: float, q: float) -> Tangent:
        """What Theta <- a(c) + j(c) Theta does near a fixed point c of the kernel, of two inputs of variance q."""
        _, _, values, slopes, _ = self._response(c, q, np.array([0.0, 1.0, 0.0]), (), ())
        start, factor = float(values[0]), float(values[1] - values[0])
        fixed = start / (1 - factor) if factor != 1 else math.inf
        *_, response, bend = self._response(c, q, np.full(3, fixed), (), ())
        return Tangent(fixed, factor, float(slopes[1] - slopes[0]), float(response[0]), float(bend[0]))

    def _response(self, c: float, q: float, ntk: Values, filters: tuple[Filter, ...], multipliers: tuple[Values, ...]
                  ) -> tuple[Values, ...]:  # fmt: skip
        shape = (1, len(ntk))
        with double_precision():
            geometry = Uniform(filters, tuple(np.array(w, np.float64) for w in multipliers))
            found = _response(self.layers, geometry, np.full(shape, c), ntk[None], np.full(shape, q), self._width)
            return tuple(np.asarray(a)[0] for a in found)

    def _padded(self, *arrays: Numbers) -> tuple[Values, ...]:
        """One step, in the one program of arrays of ``POINTS`` numbers."""
        given = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in arrays))
        size = given[0].size
        rows = [np.concatenate([a.ravel(), np.full(POINTS - size, a.flat[0])]) for a in given]
        return tuple(a[:size].reshape(given[0].shape) for a in self.after(1, *rows))  # pyright: ignore


def block_of(net_or_layer: Any, W_std: Any, b_std: Any, where: str) -> Block:
    """The block that a network repeats, a block as it is, or a nonlinearity before a fully connected layer.

    W_std, b_std: those of all linear layers of the block; None for the layers' own (of a nonlinearity alone: 1 and no bias).
    A block begins with its nonlinearity, so that q is the variance of what this acts on. TypeError for what is no layer,
    ValueError for networks of unlike layers.
    """
    for name, std in (("W_std", W_std), ("b_std", b_std)):
        check_deviation(std, where, name)
    if not isinstance(net_or_layer, Layer):
        raise TypeError(f"{where}: expected a network, a block or an activation such as Erf(), got {net_or_layer!r}.")
    layers = _period(list(net_or_layer.layers), where) if isinstance(net_or_layer, Network) else [net_or_layer]
    if not any(isinstance(layer, Affine) for layer in flatten(layers)):
        layers.append(Dense())
    if W_std is not None or b_std is not None:

        def given(affine: Any) -> tuple[Any, Any]:
            return affine.W_std if W_std is None else W_std, affine.b_std if b_std is None else b_std or None

        layers = [_map_affine(layer, given) for layer in layers]
    return Block(layers, where)


def check_deviation(std: Any, where: str, name: str) -> None:
    """ValueError or TypeError for a standard deviation that is none: negative, NaN, zero weights."""
    if std is None or is_traced(std):
        return
    std = std.item() if isinstance(std, jax.Array | np.ndarray) and np.ndim(std) == 0 else std
    check_std(where, name, std)
    if is_number(std) and (not math.isfinite(std) or std < 0 or (std == 0 and name == "W_std")):
        least = "above 0 (with weights of zero nothing of the input is left)" if name == "W_std" else "at least 0"
        raise ValueError(f"{where}: expected {name}, a standard deviation, to be finite and {least}, got {std!r}.")


def _period(layers: list[Layer], where: str) -> list[Layer]:
    """The block that the hidden layers repeat, beginning with its nonlinearity."""
    first = layers[0]
    if isinstance(first, Source):
        end = next((i for i, layer in enumerate(layers) if isinstance(layer, Readout)), len(layers))
        layers = layers[1:end]
    elif isinstance(first, FanOut) or any(isinstance(layer, Composite) for layer in layers):
        return layers  # branches: as they are
    begin = next((i for i, layer in enumerate(layers) if layer.uses_variances), None)
    if begin is None:
        return layers
    if not isinstance(first, Source):
        return layers[begin:] + layers[:begin]
    hidden = layers[begin:]
    while isinstance(hidden[-1], Affine) and begin > 0:  # after Flatten the last Dense is the output
        hidden = hidden[:-1]
    if not any(isinstance(layer, Affine) for layer in flatten(hidden)):
        lift: Any = first if isinstance(first, Lifting) else layers[begin - 1]
        return [*hidden, Dense(W_std=lift.W_std, b_std=lift.b_std)]
    length = next(p for p in range(1, len(hidden) + 1) if all(map(_alike, hidden, hidden[p:])))
    block = hidden[:length]
    if sum(isinstance(layer, Affine) for layer in flatten(block)) > 1 and 2 * length > len(hidden):
        raise ValueError(
            f"{where}: expected a network that repeats one block, got hidden layers that differ: "
            f"{' → '.join(map(_describe, hidden))}. Pass the block itself, as serial(Erf(), GroupConv(W_std=1.2))."
        )
    return block


def _alike(a: Layer, b: Layer) -> bool:
    """Whether two layers have the same kernels, widths aside."""
    return _describe(a) == _describe(b)


def _map_affine(layer: Layer, stds: Callable[[Any], tuple[Any, Any]]) -> Layer:
    """The layer with other standard deviations in all its linear layers."""
    if isinstance(layer, Affine):
        return eqx.tree_at(lambda a: (a.W_std, a.b_std), layer, stds(layer), is_leaf=lambda leaf: leaf is None)
    if isinstance(layer, Composite):
        return eqx.tree_at(lambda c: c.layers, layer, tuple(_map_affine(inner, stds) for inner in layer.layers))
    return layer


def _describe(layer: Layer) -> str:
    """Name and hyperparameters in short."""
    if isinstance(layer, Composite):
        inner = [_describe(inner) for inner in layer.layers]
        return f"({' → '.join(inner)})" if isinstance(layer, Network) else f"[{' | '.join(inner)}]"
    name = getattr(layer, "name", None)
    parts = [] if name is None else [str(name)]
    for key, value in vars(layer).items():
        if key in ("width", "name", "fn", "nodes", "derivative", "kinked", "parametrization") or value is None:
            continue
        value = getattr(value, "tolist", lambda value=value: value)()
        parts.append(f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value!r}")
    return f"{type(layer).__name__}({', '.join(parts)})"


def _run(layers: tuple[Layer, ...], geometry: Probe, c: Any, ntk: Any, q1: Any, q2: Any, width: int | None) -> State:
    state: Any = State(geometry, c, ntk, q1, q2, width=width)
    for layer in layers:
        state = layer(state)
    return state


@eqx.filter_jit
def _iterated(layers: tuple[Layer, ...], start: tuple, steps: Any, width: int | None, rescale: bool) -> tuple:
    def step(_: Any, arrays: tuple) -> tuple:
        state = _run(layers, Uniform(), *arrays, width)  # pyright: ignore
        found = (state.nngp, state.ntk, state.variance1, state.variance2)
        size = jnp.max(found[2]) if rescale else 1.0
        return tuple(jnp.broadcast_to(a / size, b.shape) for a, b in zip(found, start, strict=True))

    return jax.lax.fori_loop(0, steps, step, start)


@eqx.filter_jit
def _response(
    layers: tuple[Layer, ...], geometry: Uniform, c: Any, ntk: Any, q: Any, width: int | None
) -> tuple[Array, Array, Array, Array, Array]:
    """The slopes of kernel and variance, the tangent kernel, and its first and second derivative in the kernel."""
    ones = jnp.ones_like(c)

    def kernels(c: Array) -> tuple[Array, ...]:
        state = _run(layers, geometry, c, ntk, q, q, width)
        return tuple(jnp.broadcast_to(a, c.shape) for a in (state.nngp, state.ntk))

    def variance(q: Array) -> Array:
        return jnp.broadcast_to(_run(layers, geometry, q, ntk, q, q, width).variance1, q.shape)  # pyright: ignore

    def slopes(c: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        return jax.jvp(kernels, (c,), (ones,))

    ((_, tangent), (slope, tangent_slope)), (_, (_, bend)) = jax.jvp(slopes, (c,), (ones,))
    return slope, jax.jvp(variance, (q,), (ones,))[1], tangent, tangent_slope, bend
