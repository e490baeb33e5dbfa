"""The layers that begin a network: from raw signals to the first kernel state."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import equinox as eqx
from jaxtyping import Array, Float

from so3ntk.engine.filters import Everywhere, Filter
from so3ntk.engine.geometry import Geometry, Probe, Signal
from so3ntk.engine.layers.base import Layer, Scalar
from so3ntk.engine.parametrization import Scales
from so3ntk.engine.state import Pair, State

if TYPE_CHECKING:
    from so3ntk.engine.space import Space


class Source(Layer):
    """A first layer: it checks the signals of a batch, and makes the first state of a pair of them."""

    @abstractmethod
    def arrays(self, x: Any) -> Any:
        """The batch as a pytree of arrays with a leading axis, after checking that the layer can read it."""

    @abstractmethod
    def begin(self, pair: Pair) -> State:
        """The state of one pair of signals, without self states."""

    def self_pairs(self, pair: Pair) -> tuple[Pair, Pair]:
        """The pairs (f, f) and (f', f'), whose kernels at the identity motion are the variances."""
        return Pair(pair.f, pair.f, pair.grid), Pair(pair.g, pair.g, pair.grid)

    def __call__(self, pair: Pair) -> State:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The state of one pair, with the states of (f, f) and (f', f') where the pair asks for them."""
        if not isinstance(pair, Pair):
            raise ValueError(f"{type(self).__name__}: it reads signals, so it must be the first layer of a network.")
        state = self.begin(pair)
        if not pair.with_selves:
            return state
        selves = [self.begin(own) for own in self.self_pairs(pair)]
        selves = [dataclasses.replace(s, ntk=None) for s in selves]
        return dataclasses.replace(state, self1=selves[0], self2=selves[1])


class Lifting(Source):
    """A first layer that makes fields over motions, K = W^2 correlation + b^2: one for each geometry.

    A subclass supplies the geometry and ``arrays``; kernels, variances and what the tower needs follow here.
    """

    W_std: eqx.AbstractVar[Scalar]
    b_std: eqx.AbstractVar[Scalar | None]
    width: eqx.AbstractVar[int | None]
    parametrization: eqx.AbstractVar[str]

    @abstractmethod
    def geometry(self, grid: Any) -> Geometry:
        """The geometry on given sampled motions."""

    @abstractmethod
    def space(self, layers: tuple[Layer, ...]) -> Space:
        """The space of a network of these layers, this one among them."""

    @abstractmethod
    def channels(self, f: Signal) -> int:
        """Channels of one signal."""

    @property
    def filter(self) -> Filter:
        """What the filters see: everything, unless a subclass says otherwise."""
        return Everywhere()

    @property
    def pointwise(self) -> bool:
        """Whether the field does not depend on the position."""
        return isinstance(self.filter, Everywhere)

    @property
    def keeps_variances(self) -> bool:
        """True: they are averages of the signals' squares."""
        return True

    def fan_in(self, f: Signal) -> int:
        """Weights that meet in one feature, for the standard parametrisation: channels, where filters are white noise
        in an orthonormal basis."""
        return self.channels(f)

    @property
    def homogeneity(self) -> float | None:
        """Of its tangent kernel in the NNGP after lifting: they are equal, unless a standard bias sets them apart."""
        return 1.0 if self.parametrization == "ntk" or self.b_std is None else None

    def scales(self, f: Signal) -> Scales:
        """W^2, b^2 and their gains in the tangent kernel."""
        return Scales.of(type(self).__name__, self.W_std, self.b_std, self.parametrization, self.fan_in(f))

    def variance(self, geometry: Geometry, f: Signal) -> Float[Array, " ..."]:
        """W^2 q + b^2 at each position."""
        return self.nngp(geometry.variance(f), f)

    def nngp(self, correlation: Float[Array, " ..."], f: Signal) -> Float[Array, " ..."]:
        """W^2 c + b^2 for values c of the correlation."""
        scales = self.scales(f)
        scaled = correlation * scales.weight
        return scaled if scales.bias is None else scaled + scales.bias

    def probe(self, nngp: Float[Array, " ..."], q1: Array, q2: Array, f: Signal) -> State:
        """The state after lifting at given values of its NNGP kernel, as if each were a motion of its own."""
        scales = self.scales(f)
        if self.parametrization == "ntk":
            ntk = nngp
        else:  # Theta = g_W c + g_b with c from K = W^2 c + b^2
            shifted = nngp if scales.bias is None else nngp - scales.bias
            ntk = shifted * (scales.weight_gain / scales.weight)
            ntk = ntk if scales.bias_gain is None else ntk + scales.bias_gain
        return State(Probe(), nngp, ntk, q1, q2, width=self.width)

    def begin(self, pair: Pair) -> State:
        """K = W^2 A correlation + b^2, A the average over what the filters see, and the tangent kernel of the same layer."""
        geometry = self.geometry(pair.grid)
        correlation = geometry.correlate(pair.f, pair.g)
        q1, q2 = (geometry.variance(signal) for signal in (pair.f, pair.g))
        # Before lifting there is nothing to train: the tangent kernel of the input is zero.
        state = State(geometry, correlation, geometry.scale(correlation, 0), q1, q2)
        return state.filter(self.filter, self.scales(pair.f), self.width)
