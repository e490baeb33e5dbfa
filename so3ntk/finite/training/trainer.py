r"""Ensembles of finite networks, trained on half the mean squared error by gradient descent.

Wide networks follow ``so3ntk.predict``: after s steps of plain full-batch descent with learning rate eta, the outputs
are those of ``gradient_flow`` at t = eta s (and its learning_rate 1), up to O(eta) and the width's finiteness, with

.. math:: L = \frac{1}{2nk} \sum_{i,c} (f_c(x_i) - y_{ic})^2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from so3ntk.basics.arguments import check_whole
from so3ntk.basics.arrays import ArrayLike
from so3ntk.engine.network import Network
from so3ntk.finite.training import inputs
from so3ntk.finite.training.descent import Descent, initial_params, member, member_keys, outputs
from so3ntk.finite.training.run import Run


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained ensemble.

    params: as ``net.apply_fn`` takes them, each array with an axis of members in front. losses (steps, members): before
    each step, at time learning_rate * (0, 1, ...), of mini batches where these were used. times (T,) and recorded
    (T, members, N, k): the predictions on ``watch``, at the times of the steps that are nearest to those asked for.
    """

    net: Network
    params: PyTree
    learning_rate: float
    losses: Float[np.ndarray, "steps members"]
    times: Float[np.ndarray, " t"]
    recorded: Float[np.ndarray, "t members n k"]

    def predict(self, x: Any, batch: int | None = None) -> Float[Array, "members n k"]:
        """The outputs of all members. batch: inputs evaluated at once, by default all."""
        x = inputs.as_batch(x)
        size = len(x) if batch is None else check_whole(batch, inputs.WHERE, "batch", 1)
        parts = [outputs(self.net, self.params, x[i : i + size]) for i in range(0, max(len(x), 1), max(size, 1))]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


def train(
    net: Network,
    x: Any,
    y: ArrayLike,
    *,
    learning_rate: float,
    steps: int | None = None,
    epochs: int | None = None,
    members: int = 1,
    key: Array | int = 0,
    batch: int | None = None,
    optimizer: Callable | None = None,
    watch: Any = None,
    times: ArrayLike | None = None,
    checkpoint: str | PathLike | None = None,
    save_every: int | None = None,
    progress: bool = True,
) -> Trained:
    """Train an ensemble of finite networks; all members take a step together (``jax.vmap``).

    net: with widths, and as many outputs as targets. x: what ``net.apply_fn`` reads, its dtype that of the parameters;
    y (n,) or (n, k). learning_rate, and steps or epochs (passes through the data): see the head of this file, and
    ``predict.max_learning_rate`` for what descent bears.
    members: networks that differ in their initial parameters and batches; member i is the same in ensembles of any
    size, to rounding. key: a seed or a JAX key. batch: inputs per step, drawn by each member without replacement within
    an epoch; None for all.
    optimizer: a function of the learning rate, such as ``optax.adam``; None for ``optax.sgd``, to which theory applies.
    watch, times: inputs, and times from 0 to learning_rate * steps at which to record predictions on them.
    checkpoint: an npz file, written whole or not at all after every ``save_every`` steps (by default a tenth of them)
    and at the end. If it is there the run goes on from it, to the bits of a run without interruption; with more steps
    than before, it is continued. progress: a bar that counts steps.

    Raises ImportError without optax, ValueError and TypeError for wrong arguments and a checkpoint that is damaged or
    of another network, data or settings; PrecisionError if the loss is no longer finite.
    """
    net, learning_rate = inputs.read_network(net), inputs.read_learning_rate(learning_rate)
    make_optimizer = inputs.read_optimizer(optimizer, learning_rate)
    x, watch = inputs.as_batch(x), inputs.as_batch(watch)
    arrays, n = inputs.signal_arrays(net, x), len(x)
    y = inputs.read_targets(y, n, arrays.dtype)
    batch = inputs.read_batch_size(batch, x, n)
    steps = inputs.read_step_count(steps, epochs, n, batch)
    marks = inputs.record_steps(watch, times, learning_rate, steps)
    own_keys, batch_keys = member_keys(inputs.as_key(key), check_whole(members, inputs.WHERE, "members", 1))
    descent = Descent(make_optimizer, learning_rate, batch)
    params = initial_params(net, own_keys, arrays.shape, arrays.dtype)
    inputs.check_outputs(jax.eval_shape(net.apply_fn, member(params, 0), x).shape, y)
    run = Run(net, descent, (batch_keys, x, y), descent.start(params), watch, marks)
    if checkpoint is not None:
        every = max(1, steps // 10) if save_every is None else check_whole(save_every, inputs.WHERE, "save_every", 1)
        settings = (repr(learning_rate), repr(batch), jax.random.key_data(own_keys))
        run.keep(Path(checkpoint), settings, every)
    run.finish(steps, progress)
    times = learning_rate * marks
    return Trained(net, run.ensemble.params, learning_rate, run.stacked_losses, times, run.stacked_records(y.shape[1]))
