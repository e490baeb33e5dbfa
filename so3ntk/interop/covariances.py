r"""Networks on inputs of which only covariances are known, as between the layers of another kernel library.

Our first layers are bilinear in the signals, so that all they need of a pair (f, f') is

.. math:: C_{pq} = \mathrm{mean}_c\, f_c(p)\, f'_c(q), \qquad \Theta_{pq}, \qquad C^{ff}_{pq}, \qquad C^{f'f'}_{pq}

with p and q coefficients l^2 + l + m on the sphere, or pixels: see ``sphere`` here, and ``planar.covariances``. Features
that other layers made of raw signals are of this kind: they are random, and their tangent kernel :math:`\Theta` is not
zero.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.demand import needs_selves, pool_position, width_after
from so3ntk.engine.evaluation.by_motion import motion_kernels
from so3ntk.engine.evaluation.evaluation import Evaluation, run_layers
from so3ntk.engine.geometry import Point
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.source import Source
from so3ntk.engine.plan import read_signals
from so3ntk.engine.state import Pair, State


class Covariances(eqx.Module):
    """Of a pair: nngp and ntk (p, p) between the two inputs, own1 and own2 (p, p) of each; scalars for vectors.

    channels: of the finite network's features, which the standard parametrisation asks for.
    """

    nngp: Float[Array, " ..."]
    ntk: Float[Array, " ..."]
    own1: Float[Array, " ..."]
    own2: Float[Array, " ..."]
    channels: int = eqx.field(static=True)

    def pair(self, grid: Any, with_selves: bool = False) -> Pair:
        """The two inputs as a pair of signals."""
        return Pair(Known(self, 0), Known(self, 1), grid, with_selves)


class Known(eqx.Module):
    """The first (0) or the second (1) input of a pair, in place of a signal; motions act on the second."""

    of: Covariances
    index: int = eqx.field(static=True)

    def with_(self, other: Known) -> Covariances:
        """The covariances of the pair (self, other): those of an input with itself have no tangent kernel."""
        known = self.of
        if (self.index, other.index) == (0, 1):
            return known
        own = known.own1 if self.index == 0 else known.own2
        return Covariances(own, jnp.zeros_like(own), own, own, known.channels)


class CovarianceSource(Source):
    """A first layer that reads ``Known`` inputs in place of signals."""

    layer: Source

    @property
    def pointwise(self) -> bool:
        """That of the layer."""
        return self.layer.pointwise

    @property
    def keeps_variances(self) -> bool:
        """True: they are the diagonals of the inputs' own covariances."""
        return True

    def arrays(self, x: Any) -> Any:
        """The batch as it is."""
        return x

    def begin(self, pair: Pair) -> State:
        """The layer's state of the pair."""
        return first_state(self.layer, pair.f, pair.g, pair.grid)


@singledispatch
def first_state(layer: Source, first: Known, second: Known, grid: Any) -> State:
    """The state after a first layer; its ntk is W^2 A Theta more than that of raw signals."""
    raise NotImplementedError(f"{type(layer).__name__}: it reads signals, and cannot read covariances of its inputs.")


@singledispatch
def as_signals(layer: Source, arrays: Any) -> Any:
    """An array (N, ..., C) as the batch of signals that the layer reads."""
    return arrays


def evaluation_of(net: Any, signals: Any) -> Evaluation:
    """How the network is evaluated on a batch of signals, layer by layer, at the resolution where nothing is refined further."""
    arrays = read_signals(net.layers, signals)
    sampling = net.space.sampling(signals, net.quadrature, net.rtol)
    return net.space.evaluation(sampling, signals, arrays, jax.tree.leaves(arrays)[0].dtype)


@eqx.filter_jit
def output_kernels(
    evaluation: Evaluation,
    nngp: Float[Array, "n m *p"],
    ntk: Float[Array, "n m *p"],
    own1: Float[Array, " n *p"],
    own2: Float[Array, " m *p"] | None,
    channels: int,
) -> tuple[Float[Array, "n m"], Float[Array, "n m"], Float[Array, " n"], Float[Array, " m"] | None]:
    """The network's nngp and ntk of all pairs, and its variances of each input (own2 None: the same inputs).

    Holds the fields of one row of pairs.
    """
    local, batched, position = evaluation.motion_by_motion, evaluation.in_batches, pool_position(evaluation.layers)
    grid = evaluation.motions
    layers = jax.tree.map(
        lambda layer: CovarianceSource(layer) if isinstance(layer, Source) else layer,
        evaluation.layers,
        is_leaf=lambda layer: isinstance(layer, Source),
    )
    body, head = layers[:position], layers[position:] if position else ()

    def pooled(nngp, ntk, own1, own2):
        known = Covariances(nngp, ntk, own1, own2, channels)
        if local and batched:
            return _batched_kernels(body, known, grid)
        if local:
            return motion_kernels(body, known.pair(grid), ("nngp", "ntk")).kernels
        state = run_layers(body, known.pair(grid, needs_selves(body)))
        return state.nngp, state.ntk

    def variance(own):
        return pooled(own, jnp.zeros_like(own), own, own)[0]

    def row(arrays):
        nngp, ntk, own1 = arrays
        return jax.vmap(pooled, (0, 0, None, 0))(nngp, ntk, own1, columns)

    columns = own1 if own2 is None else own2
    own = own1 if own2 is None else jnp.concatenate([own1, own2])  # one loop, which is compiled once
    q = jax.lax.map(variance, own)
    q1, q2 = q[: len(own1)], q[-len(columns) :]
    kernels = jax.lax.map(row, (nngp, ntk, own1))
    # After pooling every layer acts on numbers, so it takes all pairs at once.
    outputs = _head(head, body, kernels[0], kernels[1], q1[:, None], q2[None, :])
    variances = [_head(head, body, q, jnp.zeros_like(q), q, q).nngp for q in (q1, q2)]
    return outputs.nngp, outputs.ntk, variances[0], None if own2 is None else variances[1]


def _head(head: tuple[Layer, ...], body: tuple[Layer, ...], nngp: Array, ntk: Array, q1: Array, q2: Array) -> State:
    return run_layers(head, State(Point(), nngp, ntk, q1, q2, width=width_after(body)))


def _batched_kernels(body: tuple[Layer, ...], known: Covariances, motions: Any) -> tuple[Array, Array]:
    """As ``motion_kernels``, of geometries whose fields end in the axes of two batches, here of one input each."""

    def add(sums, motion):
        state = run_layers(body[:-1], known.pair(motion))
        return sums + jnp.stack([state.geometry.mean(value)[0, 0] for value in (state.nngp, state.ntk)]), None

    sums, _ = jax.lax.scan(add, jnp.zeros(2, known.nngp.dtype), motions)
    means = sums / len(jax.tree.leaves(motions)[0])
    return means[0], means[1]
