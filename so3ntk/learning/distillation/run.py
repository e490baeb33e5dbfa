"""Support inputs by Adam on the loss of kernel ridge regression, a batch of the data at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from so3ntk.basics.arguments import check_flag, check_whole
from so3ntk.basics.progress import show_progress
from so3ntk.engine.network import Network
from so3ntk.errors import PrecisionError
from so3ntk.finite.training.inputs import require_optax
from so3ntk.learning.distillation.descent import Scales, Step, batches
from so3ntk.learning.distillation.inputs import (
    WHERE,
    read_data,
    read_kernel,
    read_learned,
    read_start,
    root_mean_square,
)
from so3ntk.learning.distillation.loss import pair_kernel
from so3ntk.learning.distillation.support import Distilled, fitted
from so3ntk.learning.predict.inputs import number

#: Inputs of the data in a batch, where there are more.
BATCH = 1024


def distill(
    net: Network | Callable,
    x: Any,
    y: Any,
    n: int,
    *,
    kernel: str = "ntk",
    learn_inputs: bool = True,
    learn_labels: bool = False,
    diag_reg: float = 1e-6,
    steps: int = 1000,
    learning_rate: float = 0.03,
    batch: int | None = None,
    repeat: int = 1,
    start: tuple[Any, Any] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Distilled:
    r"""n support inputs on which kernel ridge regression predicts the targets of all the data.

    .. math:: \min_{s, y_s} \; \frac{1}{2m} \bigl\| y_t - K_{ts} (K_{ss} + \lambda I)^{-1} y_s \bigr\|^2

    net: a network that reads images, vectors or a ``SphereSignal``, or a kernel function such as
    ``augmented(net.kernel_fn, planar.motions("C4"))``: with an invariant kernel one support input stands for its whole orbit.
    x, y: the data; labels (N,), integers or text, of which centred one-hot vectors are the targets; or floats (N,), (N, k).
    kernel: "ntk" or "nngp". learn_inputs, learn_labels: what descent moves; the support's targets stay as drawn by default.
    diag_reg: lambda in units of the mean of K_ss's diagonal. steps: of Adam. learning_rate: of the first; it falls to zero as a
    cosine. In units of the root mean squares of x and of y. batch: inputs of the data in a step, by default 1,024 of them; drawn without
    replacement until all have been seen. repeat: steps before the next batch is taken. start: inputs and their labels or
    targets; None for n of the data, as many of each class. seed: of the draw and of the batches.

    The data stay in NumPy's memory; a step holds one batch. Kernels have the precision of x, the solve JAX's widest: for
    a small diag_reg set ``jax_enable_x64``. Source: Nguyen, Chen, Lee (2021).

    Returns ``Distilled``, with ``inputs``, ``targets``, ``losses`` and ``predict``. Raises ImportError without optax;
    ValueError and TypeError for wrong arguments; PrecisionError if the loss is no longer finite.
    """
    optax = require_optax(WHERE)
    learned, steps, repeat = (
        read_learned(learn_inputs, learn_labels),
        check_whole(steps, WHERE, "steps", 1),
        check_whole(repeat, WHERE, "repeat", 1),
    )
    rate, diag_reg = number(learning_rate, WHERE, "learning_rate", True), number(diag_reg, WHERE, "diag_reg")
    check_flag(progress, WHERE, "progress")
    data = read_data(x, y)
    read_kernel(net, kernel, data.x)
    size = min(BATCH, len(data)) if batch is None else check_whole(batch, WHERE, "batch", 1)
    if size > len(data):
        raise ValueError(f"{WHERE}: a batch of {size} is larger than the {len(data)} inputs of the data. Lower batch.")
    generator = np.random.default_rng(check_whole(seed, WHERE, "seed", 0))
    first = read_start(start, data, check_whole(n, WHERE, "n", 1), generator)
    step = Step(pair_kernel(net, kernel), optax.adam(optax.cosine_decay_schedule(rate, steps)), diag_reg)
    state = step.start(first, learned, Scales(root_mean_square(data.x), root_mean_square(data.y)))
    parts = (data.rows(rows) for rows in batches(len(data), size, generator) for _ in range(repeat))
    losses = np.zeros(steps)
    with show_progress(steps, " steps", "Distillation", progress) as bar:
        for i in range(steps):
            state, value = step(state, *next(parts))
            losses[i] = float(value)
            if not np.isfinite(losses[i]):
                raise _not_finite(i)
            bar.update(1)
    drawn_as = None if data.classes is None else data.classes[np.argmax(first.targets, axis=1)]
    inputs, targets = state.support
    inputs = np.asarray(inputs) if isinstance(inputs, jax.Array) else inputs
    targets = np.asarray(targets)[:, 0] if data.flat else np.asarray(targets)
    ridge, dual_coef = fitted(net, kernel, inputs, targets, diag_reg)
    return Distilled(net, kernel, inputs, targets, data.classes, ridge, losses, dual_coef, drawn_as)


def _not_finite(step: int) -> PrecisionError:
    return PrecisionError(
        f"{WHERE}: the loss is not finite before step {step}: K_ss + lambda I is not positive definite to this precision, or the "
        "support went too far. Raise diag_reg, lower learning_rate, or compute in double precision: jax_enable_x64."
    )
