"""One step of Adam on the support, compiled, and the batches of data that it sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from so3ntk.learning.distillation.loss import PairKernel, Support, support_loss


class Scales(NamedTuple):
    """The units that inputs and targets are moved in."""

    inputs: float
    targets: float


class State(eqx.Module):
    """The support, in parts that move and parts that stay, and what Adam keeps between steps.

    What moves is in units (``scales``) of the root mean squares of the data's, so that one learning rate serves inputs and targets.
    """

    moving: Support
    fixed: Support
    memory: PyTree
    scales: Scales = eqx.field(static=True)

    @property
    def support(self) -> Support:
        """In the units of the data."""
        return eqx.combine(in_units(self.moving, self.scales), self.fixed)


class Step(eqx.Module):
    """What does not change from step to step. optimizer: of optax."""

    kernel: PairKernel = eqx.field(static=True)
    optimizer: Any = eqx.field(static=True)
    diag_reg: float = eqx.field(static=True)

    def start(self, support: Support, learned: tuple[bool, bool], scales: Scales) -> State:
        """The state before the first step."""
        inverse = Scales(1 / scales.inputs, 1 / scales.targets)
        mask: Any = Support(*learned)  # pyright: ignore[reportArgumentType] - one answer for each part
        moving, fixed = eqx.partition(jax.tree.map(jnp.asarray, support), mask)
        moving = in_units(moving, inverse)
        return State(moving, fixed, self.optimizer.init(moving), scales)

    @eqx.filter_jit
    def __call__(self, state: State, x: PyTree, y: Float[Array | np.ndarray, "m k"]) -> tuple[State, Float[Array, ""]]:
        """The state after a step on a batch, and the loss before it."""
        import optax

        def loss(moving: Support) -> Array:
            support = eqx.combine(in_units(moving, state.scales), state.fixed)
            return support_loss(self.kernel, support, x, y, self.diag_reg)

        value, gradient = jax.value_and_grad(loss)(state.moving)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of a counter
            updates, memory = self.optimizer.update(gradient, state.memory)
            moving: Any = optax.apply_updates(state.moving, updates)
        return State(moving, state.fixed, memory, state.scales), value


def in_units(support: Support, scales: Scales) -> Support:
    """The support times the scales, each array in its own dtype; None stays."""
    both = zip(support, scales, strict=True)
    return Support(*(jax.tree.map(lambda a, by=by: a * jnp.asarray(by, a.dtype), part) for part, by in both))


def batches(total: int, size: int, generator: np.random.Generator) -> Iterator[Int[np.ndarray, " size"]]:
    """Rows of batches without end: in random order, all of them (but a remainder) before any comes again."""
    while True:
        order = generator.permutation(total)
        for begin in range(0, total - size + 1, size):
            yield order[begin : begin + size]
