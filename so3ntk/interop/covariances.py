r"""Networks on inputs of which only covariances are known, as between the layers of another kernel library.

Our first layers are bilinear in the signals, so that all they need of a pair (f, f') is

.. math:: C_{pq} = \mathrm{mean}_c\, f_c(p)\, f'_c(q), \qquad \Theta_{pq}, \qquad C^{ff}_{pq}, \qquad C^{f'f'}_{pq}

with p and q coefficients l^2 + l + m on the sphere, or pixels: see ``sphere`` here, and ``planar.covariances``. Features
that other layers made of raw signals are of this kind: they are random, and their tangent kernel :math:`\Theta` is not
zero.
"""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.demand import geometry_after, pool_position, width_after
from so3ntk.engine.evaluation.evaluation import Evaluation, run_layers
from so3ntk.engine.layers.source import Source
from so3ntk.engine.plan import read_signals
from so3ntk.engine.state import Pair, State


class Known(eqx.Module):
    """One input of a pair, or a batch of them, in place of a signal.

    own: covariances (p, p) of its features among themselves; a number for vectors. nngp, ntk: with those of the first input,
    where this is the second, on which motions act. shape: of a signal, its axes and its channels.
    """

    own: Float[Array, " ..."]
    shape: tuple[int, ...] = eqx.field(static=True)
    nngp: Float[Array, " ..."] | None = None
    ntk: Float[Array, " ..."] | None = None

    @property
    def moves(self) -> bool:
        """Whether it is the second input."""
        return self.nngp is not None

    @property
    def signal(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of a signal."""
        return jax.ShapeDtypeStruct(self.shape, self.own.dtype)

    def with_(self, other: Known) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """nngp and ntk of the pair (self, other): those of an input with itself have no tangent kernel."""
        if other.nngp is None or other.ntk is None or self.moves:
            return other.own, jnp.zeros_like(other.own)
        return other.nngp, other.ntk


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
    shape: tuple[int, ...],
) -> tuple[Float[Array, "n m"], Float[Array, "n m"], Float[Array, " n"], Float[Array, " m"] | None]:
    """The network's nngp and ntk of all pairs, and its variances of each input (own2 None: the same inputs).

    shape: of one signal. Holds the fields of one row of pairs.
    """
    position = pool_position(evaluation.layers)
    body, head = evaluation.layers[:position], evaluation.layers[position:] if position else ()
    sources = jax.tree.map(
        lambda layer: CovarianceSource(layer) if isinstance(layer, Source) else layer,
        body,
        is_leaf=lambda layer: isinstance(layer, Source),
    )
    pooled = dataclasses.replace(evaluation, layers=sources)

    def row(first, columns, get=("nngp", "ntk")):
        own, nngp, ntk = first
        f, g = Known(own[None], shape), Known(columns, shape, nngp, ntk)
        return [kernel[0] for kernel in pooled.pairs(f, g, get).kernels]

    def variance(own):
        return row((own, own[None], jnp.zeros_like(own[None])), own[None], ("nngp",))[0][0]

    def after(nngp, ntk, q1, q2):
        return run_layers(head, State(geometry_after(body), nngp, ntk, q1, q2, width=width_after(body)))

    columns = own1 if own2 is None else own2
    own = own1 if own2 is None else jnp.concatenate([own1, own2])  # one loop, which is compiled once
    q = jax.lax.map(variance, own)
    nngp, ntk = jax.lax.map(lambda first: row(first, columns), (own1, nngp, ntk))
    # After pooling every layer acts on numbers, so it takes all pairs at once, with variances that are computed once.
    outputs = after(nngp, ntk, q[: len(own1), None], q[None, -len(columns) :])
    variances = after(q, jnp.zeros_like(q), q, q).nngp
    return outputs.nngp, outputs.ntk, variances[: len(own1)], None if own2 is None else variances[len(own1) :]
