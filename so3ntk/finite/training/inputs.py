"""What ``training.train`` accepts, checked before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from so3ntk.basics.arguments import check_whole
from so3ntk.basics.arrays import ArrayLike, as_numbers, refuse_masked
from so3ntk.engine.network import Network
from so3ntk.engine.plan import parts_of, read_signals, split_at_reduction

WHERE = "training.train"


def require_optax(where: str = WHERE) -> Any:
    """The module optax. ImportError naming the extra if it is missing."""
    try:
        import optax
    except ImportError as error:
        raise ImportError(f"{where}: training needs optax: pip install optax.") from error
    return optax


def read_network(net: object) -> Network:
    """The network; TypeError for anything else."""
    if not isinstance(net, Network):
        raise TypeError(f"{WHERE}: expected a network made by so3ntk.serial, got {type(net).__name__}.")
    return net


def as_batch(x: Any) -> PyTree:
    """A batch as a pytree of arrays: a data set of images by its images, lists and NumPy arrays as JAX's."""
    x = getattr(x, "images", x)
    return jnp.asarray(as_numbers(x, f"{WHERE}: the inputs")) if isinstance(x, np.ndarray | list | tuple) else x


def signal_arrays(net: Network, x: Any) -> Array:
    """The array that the first layer reads, whose shape and dtype decide those of the parameters."""
    layers, reduction, _ = split_at_reduction(net.layers)
    return read_signals(layers, parts_of(reduction, x).signals)


def read_targets(y: ArrayLike, n: int, dtype: Any) -> Float[Array, "n k"]:
    """Finite real targets (n,) or (n, k) as (n, k)."""
    refuse_masked(y, f"{WHERE}: the targets y")
    values = np.asarray(y)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{WHERE}: expected real targets y, got {type(y).__name__} of {values.dtype}.")
    if values.ndim not in (1, 2) or len(values) != n or values.size == 0:
        raise ValueError(f"{WHERE}: expected y ({n},) or ({n}, k), a target for each input, got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{WHERE}: expected finite targets, but y holds NaN or infinity.")
    return jnp.asarray(values.reshape(n, -1), dtype)


def check_outputs(shape: tuple[int, ...], y: Float[Array, "n k"]) -> None:
    """ValueError unless the network's outputs have the shape of the targets."""
    if shape != y.shape:
        raise ValueError(
            f"{WHERE}: the network's outputs have the shape {shape}, the targets (n, k) {y.shape}. End the network "
            f"with GroupPool() and Dense({y.shape[1]})."
        )


def read_step_count(steps: int | None, epochs: int | None, n: int, batch: int | None) -> int:
    """The number of steps: as given, or as so many passes through the data."""
    if (steps is None) == (epochs is None):
        raise ValueError(f"{WHERE}: expected either steps or epochs, got steps={steps!r} and epochs={epochs!r}.")
    if steps is not None:
        return check_whole(steps, WHERE, "steps", 0)
    return check_whole(epochs, WHERE, "epochs", 0) * (n // (batch or n))


def read_batch_size(batch: int | None, x: PyTree, n: int) -> int | None:
    """The size of a mini batch; None for full batch."""
    if batch is None:
        return None
    check_whole(batch, WHERE, "batch", 1)
    if batch > n:
        raise ValueError(f"{WHERE}: a batch of {batch} is larger than the {n} training inputs. None takes all of them.")
    if any(leaf.shape[:1] != (n,) for leaf in jax.tree.leaves(x)):
        raise ValueError(
            f"{WHERE}: mini batches need arrays with a row for each input; those of {type(x).__name__} are shared "
            "between inputs. Use batch=None."
        )
    return int(batch)


def read_learning_rate(value: float) -> float:
    """A finite number > 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < math.inf:
        raise ValueError(f"{WHERE}: expected learning_rate to be a finite number > 0, got {value!r}.")
    return float(value)


def read_optimizer(optimizer: Callable | None, learning_rate: float) -> Callable:
    """The function that makes an optax transformation of a learning rate; plain gradient descent for None."""
    optax = require_optax()
    make = optax.sgd if optimizer is None else optimizer
    if not callable(make) or not isinstance(make(learning_rate), optax.GradientTransformation):
        raise TypeError(
            f"{WHERE}: expected optimizer to be a function of the learning rate such as optax.adam or "
            f"functools.partial(optax.sgd, momentum=0.9), got {optimizer!r}. Pass optax.adam, not optax.adam(1e-3)."
        )
    return make


def record_steps(watch: PyTree, times: ArrayLike | None, learning_rate: float, steps: int) -> Int[np.ndarray, " t"]:
    """The steps nearest to the times, in order, each once."""
    if (watch is None) != (times is None):
        raise ValueError(f"{WHERE}: watch (inputs) and times (when to record predictions on them) go together.")
    if watch is None:
        return np.zeros(0, np.int64)
    values = np.asarray(times, np.float64).ravel()
    end = learning_rate * steps
    wrong = ~((values >= 0) & (values <= end * (1 + 1e-9)))
    if wrong.any():
        raise ValueError(
            f"{WHERE}: expected times from 0 to learning_rate * steps = {end:g}, got {values[wrong][0]}. Raise steps."
        )
    return np.unique(np.rint(values / learning_rate).astype(np.int64))


def as_key(key: Array | int) -> Array:
    """A JAX key, or a seed as one."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return jax.random.key(int(key))
    if not isinstance(key, jax.Array):
        raise TypeError(f"{WHERE}: expected key to be a seed (int) or a JAX key, got {key!r}.")
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
