r"""The kernel of one atom's environment with several others, its tangents along these, and the gradient of all of it.

For an environment a, and environments b_j with directions db_j, an object of this file returns

.. math:: \kappa(a, b_j),\quad \partial_y \kappa(a, b_j) \qquad \text{and their gradients in } a,

with y along db_j: everything that the energy and force blocks of molecules are made of (``energy_force_gram``).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.demand import tower_span
from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.molecules.forces.class_tables import ClassTables
from so3ntk.molecules.forces.tower_blocks import gradient_in_first, tower_function
from so3ntk.sphere.layers.lift import Lift
from so3ntk.sphere.o3 import OrthogonalGeometry, mirrored
from so3ntk.sphere.transforms.dense import DenseTransform


class PairDerivatives(eqx.Module):
    """Any network, by automatic differentiation: forward over reverse, one pair and one direction at a time.

    evaluation: of the layers before the sum over atoms, layer by layer; kernel: "nngp" or "ntk".
    """

    evaluation: Evaluation
    kernel: str = eqx.field(static=True)
    batch = 8  # environments b_j of one call

    def __call__(
        self, a: Float[Array, "p c"], b: Float[Array, "n p c"], db: Float[Array, "n p c y"]
    ) -> tuple[Float[Array, "n 1+y"], Float[Array, "n p c 1+y"]]:
        """Values and tangents, and their gradients in a."""
        both = jax.value_and_grad(self._value)

        def one(pair):
            b, db = pair
            (value, gradient), tangent = jax.linearize(lambda b: both(a, b), b)  # once for all directions
            along, gradients = jax.lax.map(tangent, jnp.moveaxis(db, -1, 0))
            return jnp.append(value, along), jnp.concatenate([gradient[None], gradients])

        values, gradients = jax.lax.map(one, (b, db))
        return values, jnp.moveaxis(gradients, 1, -1)

    def _value(self, a: Float[Array, "p c"], b: Float[Array, "p c"]) -> Float[Array, ""]:
        kernel = lambda f, g: self.evaluation.pair(f, g, (self.kernel,)).kernels[0]  # noqa: E731
        # Filters on caps: positions are those of the first signal, and symmetric matrices hold the mean of both orders.
        return (kernel(a, b) + kernel(b, a)) / 2 if self.evaluation.in_batches else kernel(a, b)


class TowerDerivatives(PairDerivatives):
    """Networks of global filters, pointwise layers and one pooling: in closed form, see ``tower_blocks``."""

    tables: Any = None
    batch = 64

    def __call__(
        self, a: Float[Array, "p c"], b: Float[Array, "n p c"], db: Float[Array, "n p c y"]
    ) -> tuple[Float[Array, "n 1+y"], Float[Array, "n p c 1+y"]]:
        """Values and tangents, and their gradients in a."""
        layers: Any = self.evaluation.layers
        geometry = layers[0].geometry(self.evaluation.motions)
        function = tower_function(layers, self.kernel, a)
        if not isinstance(geometry, OrthogonalGeometry):
            return gradient_in_first(function, geometry, self.tables, a, b, db)
        flipped = jnp.moveaxis(mirrored(jnp.moveaxis(db, -1, 1)), 1, -1)
        halves = [gradient_in_first(function, geometry.proper, self.tables, a, *half)
                  for half in ((b, db), (mirrored(b), flipped))]  # fmt: skip
        return jax.tree.map(lambda x, y: (x + y) / 2, *halves)


def pair_derivatives(evaluation: Evaluation, kernel: str) -> PairDerivatives:
    """The cheapest way for the layers before the sum over atoms, on a grid."""
    evaluation, layers = evaluation.finest.by_layers, evaluation.layers
    tower = isinstance(layers[0], Lift) and tower_span(layers) == len(layers)
    if tower and isinstance(evaluation.motions.transform, DenseTransform):
        return TowerDerivatives(evaluation, kernel, ClassTables.of(evaluation.motions))
    return PairDerivatives(evaluation, kernel)
