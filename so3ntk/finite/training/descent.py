"""The state of an ensemble in training, and one step of all its members at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from so3ntk.engine.network import Network


class Ensemble(NamedTuple):
    """Parameters and what the optimizer keeps between steps, both stacked over the members."""

    params: PyTree
    memory: PyTree


def member_keys(key: Array, members: int) -> tuple[Array, Array]:
    """For each member the key of its parameters and that of its batches; the same in any ensemble it is part of."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(members))
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def member(params: PyTree, index: int) -> PyTree:
    """The parameters of one member."""
    return jax.tree.map(lambda leaf: leaf[index], params)


@eqx.filter_jit
def initial_params(net: Network, keys: Array, shape: tuple[int, ...], dtype: Any) -> PyTree:
    """Random parameters for each key. Compiled once for a network, as are the functions below."""
    return jax.vmap(lambda key: net.init_fn(key, shape, dtype)[1])(keys)


class Descent(NamedTuple):
    """How to take a step: the optimizer as a function of the learning rate, and the batch size, None for all."""

    make_optimizer: Callable
    learning_rate: float
    batch: int | None

    def start(self, params: PyTree) -> Ensemble:
        """The ensemble before its first step."""
        return Ensemble(params, jax.vmap(self.make_optimizer(self.learning_rate).init)(params))

    def step(self, net: Network, ensemble: Ensemble, keys: Array, x: PyTree, y: Float[Array, "n k"],
             index: Int[Array, ""]) -> tuple[Ensemble, Float[Array, " members"]]:  # fmt: skip
        """The ensemble after step number ``index``, and the losses before it."""
        import optax

        optimizer = self.make_optimizer(self.learning_rate)

        def loss(params, x, y):
            return jnp.mean((net.apply_fn(params, x) - y) ** 2) / 2

        def one(member, key):
            own = (x, y)
            if self.batch is not None:
                rows = batch_rows(key, index, len(y), self.batch)
                own = jax.tree.map(lambda leaf: leaf[rows], own)
            value, gradient = jax.value_and_grad(loss)(member.params, *own)
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of a counter
                updates, memory = optimizer.update(gradient, member.memory, member.params)
                return Ensemble(optax.apply_updates(member.params, updates), memory), value

        return jax.vmap(one)(ensemble, keys)


@eqx.filter_jit
def advance(descent: Descent, net: Network, *arrays: PyTree) -> tuple[Ensemble, Float[Array, " members"]]:
    """``Descent.step``, compiled."""
    return descent.step(net, *arrays)


def batch_rows(key: Array, index: Int[Array, ""], n: int, batch: int) -> Int[Array, " batch"]:
    """The inputs of step ``index``: without replacement within an epoch, whose remainder below a batch is left out."""
    per_epoch = n // batch
    order = jax.random.permutation(jax.random.fold_in(key, index // per_epoch), n)
    return jax.lax.dynamic_slice(order, (index % per_epoch * batch,), (batch,))


@eqx.filter_jit
def outputs(net: Network, params: PyTree, x: PyTree) -> Float[Array, "members n k"]:
    """The outputs of all members."""
    return jax.vmap(lambda own: net.apply_fn(own, x))(params)
