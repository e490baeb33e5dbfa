"""Networks whose layers between lifting and pooling are pointwise: one function of the correlation, at every depth."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.demand import homogeneity_of, readout_of, tower_span
from so3ntk.engine.evaluation.evaluation import Evaluation, Result, Whole, run_layers
from so3ntk.engine.evaluation.tower import Nodes, Tower, probe_points
from so3ntk.engine.geometry import Signal
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.readout import Readout


def make_tower(
    layers: tuple[Layer, ...],
    f: Signal,
    g: Signal,
    points: Float[Array, "2 n"] | np.ndarray,
    get: tuple[str, ...],
    motions: Any = None,
) -> Tower:
    """The layers of a tower (``tower_span``) as one function, for the variances of one pair, from ``probe_points``."""
    lift: Any = layers[0]
    body = tuple(layer.probe if isinstance(layer, Readout) else layer for layer in layers[1:])
    geometry = lift.geometry(motions)

    def run(nngp, q1, q2):
        state = run_layers(body, lift.probe(nngp, q1, q2, f))  # pyright: ignore[reportArgumentType]
        return [getattr(state, name) for name in get]

    q1, q2 = (lift.variance(geometry, signal) for signal in (f, g))
    return Tower.collapse(run, q1, q2, homogeneity_of(layers), points)


class TowerEvaluation(Evaluation):
    """Of towers, whose layers act on one number; subclasses say how in ``fields``."""

    @property
    def span(self) -> int:
        """Up to the readout and the Dense layers that commute with it."""
        span = tower_span(self.layers)
        assert span is not None, "only towers collapse"
        return span

    def unpooled(self, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, ...]:
        """A tower ends in its readout."""
        raise AssertionError("a tower has no field")

    @property
    def by_layers(self) -> Whole:
        """Every layer on the whole field."""
        return Whole(self.layers, self.motions)

    @property
    def is_tower(self) -> bool:
        """True."""
        return True


class Collapsed(TowerEvaluation):
    """A tower, tabulated at ``nodes``."""

    layers: tuple[Layer, ...]
    motions: Any
    nodes: Nodes = eqx.field(static=True)

    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """The kernels of one pair."""
        layers = self.layers[: self.span]
        lift: Any = layers[0]
        tower = make_tower(layers, f, g, probe_points(self.nodes), get, self.motions)

        def function(coefficients, correlation):
            return tower.evaluate(coefficients, lift.nngp(correlation, f), self.nodes.stretch)

        readout: Any = readout_of(layers)
        means, largest = lift.geometry(self.motions).mean_of(
            function, tower.coefficients(self.nodes.stretch), f, g, readout.irrep
        )
        means = readout.finish(means)
        return Result(tuple(means[i] for i in range(len(get))), lift.nngp(largest, f) * tower.inverse_norm)


class Refined(Evaluation):
    """A base grid, and a finer one for pairs aligned beyond a threshold.

    Near c = 1 the NTK of kinked activations has a cusp that only a fine grid resolves; which pairs need it is decided
    for each pair alone, so results do not depend on the batch.
    """

    base: Evaluation
    fine: Evaluation
    threshold: Any
    #: Rows of a batch that are computed again if any pair in them is aligned.
    rows = 8

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those of both."""
        return self.base.layers

    @property
    def motions(self) -> tuple[Any, Any]:
        """Both grids."""
        return self.base.motions, self.fine.motions

    @property
    def span(self) -> int:
        """That of both."""
        return self.base.span

    def fields(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """On the fine grid: a single pair gains nothing from two."""
        return self.fine.fields(f, g, get)

    def unpooled(self, f: Signal, g: Signal, get: tuple[str, ...]) -> tuple[Array, ...]:
        """On the base grid."""
        return self.base.unpooled(f, g, get)

    def pairs(self, f: Signal, g: Signal, get: tuple[str, ...]) -> Result:
        """A few rows at a time: those without an aligned pair are left as they are."""
        kernels, alignment = self.base.pairs(f, g, get)
        aligned = jax.lax.stop_gradient(alignment) > self.threshold

        def refine(rows):
            f, kernels, aligned = rows
            refined = jax.lax.cond(jnp.any(aligned), lambda: self.fine.pairs(f, g, get).kernels, lambda: kernels)
            return tuple(
                jnp.where(_over_blocks(aligned, old), new, old) for new, old in zip(refined, kernels, strict=True)
            )

        step = np.gcd(len(alignment), self.rows)
        slabs = jax.tree.map(lambda a: a.reshape(len(alignment) // step, step, *a.shape[1:]), (f, kernels, aligned))
        refined = jax.lax.map(refine, slabs)
        return Result(tuple(k.reshape(*alignment.shape, *k.shape[3:]) for k in refined), alignment)

    @property
    def by_layers(self) -> Refined:
        """Both by layers."""
        return Refined(self.base.by_layers, self.fine.by_layers, self.threshold)  # pyright: ignore

    @property
    def finest(self) -> Evaluation:
        """The fine one."""
        return self.fine

    @property
    def is_tower(self) -> bool:
        """Whether both are."""
        return self.base.is_tower


def _over_blocks(of_pairs: Array, blocks: Array) -> Array:
    """Numbers (n, m) that broadcast against blocks (n, m, ...)."""
    return of_pairs.reshape(*of_pairs.shape, *(1,) * (blocks.ndim - of_pairs.ndim))
