"""The ways to evaluate a network: which one is chosen once, by the space that its signals live on.

``Whole`` runs every layer on the field of all motions, ``Collapsed`` sums up pointwise layers in one function
(``tower``), ``ByMotion`` goes motion by motion, and ``Refined`` takes a finer grid for the pairs that need one.
"""

# Without postponed annotations: equinox reads those of abstract variables as they are.

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import AbstractVar
from jaxtyping import Array, Float

from so3ntk.engine.demand import geometry_after, needs_selves, tower_span, width_after
from so3ntk.engine.evaluation.tower import inverse_or_zero
from so3ntk.engine.geometry import Signal
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.state import Pair, State


class Result(NamedTuple):
    """The kernels asked for, in their order, and the pair's alignment: the largest correlation c over all motions.

    The alignment is -1 where it is not computed.
    """

    kernels: tuple[Float[Array, " ..."], ...]
    alignment: Float[Array, " ..."]


class Evaluation(eqx.Module):
    """A network on sampled motions.

    layers: those before a sum over parts. motions: in the form that the geometry reads; None where it needs none.
    """

    layers: AbstractVar[tuple[Layer, ...]]
    motions: AbstractVar[Any]

    @property
    @abstractmethod
    def span(self) -> int:
        """How many layers are evaluated on fields; the others, the head, act on numbers or blocks."""

    @abstractmethod
    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels of one pair after the first ``span`` layers."""

    def pair(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels of one pair after all layers."""
        return self._headed(self.fields, f, g, get)

    def pairs(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels (n, m, ...) of all pairs of two small batches."""
        return jax.vmap(jax.vmap(lambda f, g: self.pair(f, g, get), (None, 0)), (0, None))(f, g)

    @abstractmethod
    def unpooled(self, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, ...]:
        """The fields of one pair as arrays of motions and positions, for networks that end before pooling."""

    @property
    def by_layers(self) -> "Evaluation":
        """The evaluation whose derivatives are those of the network: itself but for a tower's polynomial, which in an angle
        has none at c = +-1."""
        return self

    @property
    def finest(self) -> "Evaluation":
        """Where there are two grids, the evaluation on the finer one."""
        return self

    @property
    def is_tower(self) -> bool:
        """Whether layers are summed up in one function, so that a pair holds no field."""
        return False

    @property
    def motion_by_motion(self) -> bool:
        """Whether one motion's field is held at a time."""
        return False

    @property
    def in_batches(self) -> bool:
        """Whether a geometry's fields are those of batches, for which few pairs are enough."""
        return False

    def _headed(self, fields: Callable[..., Result], f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        body, head = self.layers[: self.span], self.layers[self.span :]
        if not head:
            return fields(f, g, get)
        (nngp, ntk), alignment = fields(f, g, ("nngp", "ntk"))
        q1, q2 = self._variances(f, g) if needs_selves(self.layers) else (None, None)
        state = run_layers(head, State(geometry_after(body), nngp, ntk, q1, q2, width=width_after(body)))
        return Result(tuple(getattr(state, name) for name in get), alignment)

    def _variances(self, f: Signal, g: Signal) -> tuple[Array, Array]:
        """The kernels of both with themselves; under vmap they are computed once per signal, not per pair."""
        own = [self.fields(signal, signal, ("nngp",)).kernels[0] for signal in (f, g)]
        return own[0], own[1]


def run_layers(layers: Sequence[Callable[[Any], Any]], state: Pair | State) -> State:
    """Layer by layer: the definition of the network's kernel."""
    for layer in layers:
        state = layer(state)  # pyright: ignore[reportArgumentType]
    return state  # pyright: ignore[reportReturnType]


class Whole(Evaluation):
    """Every layer on the whole field: the kernels by their definition."""

    layers: tuple[Layer, ...]
    motions: Any

    @property
    def span(self) -> int:
        """All of them."""
        return len(self.layers)

    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels of one pair."""
        state = run_layers(self.layers, self._given(f, g))
        kernels = tuple(getattr(state, name) for name in get)
        collapses = tower_span(self.layers) is not None
        return Result(kernels, self._alignment(f, g) if collapses else jnp.full((), -1, kernels[0].dtype))

    def unpooled(self, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, ...]:
        """Their samples."""
        state = run_layers(self.layers, self._given(f, g))
        return tuple(state.geometry.samples(getattr(state, name)) for name in get)

    def _given(self, f: Signal, g: Signal) -> Pair:
        return Pair(f, g, self.motions, needs_selves(self.layers))

    def _alignment(self, f: Signal, g: Signal) -> Float[Array, ""]:
        lift: Any = self.layers[0]
        geometry = lift.geometry(self.motions)
        largest = jnp.max(geometry.samples(geometry.correlate(f, g)))
        norm = jnp.sqrt(lift.variance(geometry, f)) * jnp.sqrt(lift.variance(geometry, g))
        return lift.nngp(largest, f) * inverse_or_zero(norm)
