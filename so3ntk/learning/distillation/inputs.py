"""What ``distill`` accepts, checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from so3ntk.basics.arguments import check_flag
from so3ntk.basics.arrays import ArrayLike, as_numbers, float_dtype, refuse_masked
from so3ntk.engine.demand import readout_of
from so3ntk.engine.network import Network, check_kernel_name
from so3ntk.learning.classifier import centred_one_hot, classes_of
from so3ntk.learning.distillation.loss import Support, pair_kernel
from so3ntk.learning.regressor import check_targets

WHERE = "distill"


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs, a pytree of arrays with a row for each, and targets (N, k).

    classes: the labels, sorted, whose centred one-hot vectors the targets are; None for targets that were numbers. labels: the
    number of each row's class. flat: whether targets came as (N,).
    """

    x: PyTree
    y: Float[np.ndarray, "n k"]
    classes: np.ndarray | None
    labels: Int[np.ndarray, " n"] | None
    flat: bool

    def __len__(self) -> int:
        return len(self.y)

    @property
    def dtype(self) -> np.dtype:
        """Of the inputs."""
        return jax.tree.leaves(self.x)[0].dtype

    def rows(self, indices: Int[np.ndarray, " m"]) -> Support:
        """Some of the inputs, with their targets."""
        return Support(jax.tree.map(lambda leaf: leaf[indices], self.x), self.y[indices])


def read_data(x: Any, y: Any, classes: np.ndarray | None = None) -> Data:
    """Inputs and labels (N,), or targets that are floats or have two axes. classes: those of the data, for a start."""
    batch = as_batch(x)
    n = len(jax.tree.leaves(batch)[0])
    refuse_masked(y, f"{WHERE}: the targets y")
    array = np.asarray(y)
    if array.dtype.kind in "fc" or array.ndim == 2:
        targets = check_targets(y, n, WHERE)
        return Data(batch, targets.reshape(n, -1), classes, None, targets.ndim == 1)
    if classes is None:
        classes, labels = classes_of(y, n, WHERE)
    else:
        labels = _places(array, classes, n)
    return Data(batch, centred_one_hot(labels, len(classes)), classes, labels, False)


def _places(labels: np.ndarray, classes: np.ndarray, n: int) -> Int[np.ndarray, " n"]:
    """The place of each label of a start among the classes of the data."""
    if labels.shape != (n,):
        raise ValueError(f"{WHERE}: expected a label for each of the {n} start inputs, got shape {labels.shape}.")
    unknown = labels[~np.isin(labels, classes)]
    if len(unknown):
        raise ValueError(f"{WHERE}: the start has the label {unknown.tolist()[0]!r}, which y does not have.")
    return np.searchsorted(classes, labels)


def as_batch(x: Any) -> PyTree:
    """A batch as a pytree of arrays of NumPy, floats: images of ``ImageData``, arrays, lists, a ``SphereSignal``."""
    x = getattr(x, "images", x)
    if isinstance(x, np.ndarray | jax.Array | list | tuple):
        numbers = np.asarray(as_numbers(x, f"{WHERE}: the inputs x"))
        x = numbers if numbers.dtype.kind in "fc" else numbers.astype(float_dtype(numbers.dtype))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    rows = {leaf.shape[:1] for leaf in leaves}
    if not leaves or len(rows) > 1 or rows == {()} or any(leaf.dtype.kind != "f" for leaf in leaves):
        raise TypeError(
            f"{WHERE}: expected inputs of real numbers, a row for each: images (n, H, W, C), vectors (n, d) or a SphereSignal, got "
            f"{type(x).__name__}. Molecules have parts that are not learned by descent."
        )
    for leaf in leaves:
        finite = np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
        if not finite.all():
            raise ValueError(f"{WHERE}: x holds NaN or infinity, first in input {int(np.argmin(finite))}.")
    return jax.tree.map(np.asarray, x)


def read_kernel(net: Network | Callable, kernel: str, x: PyTree) -> None:
    """TypeError and ValueError for what is no network and no kernel function, or has blocks, fields or other inputs."""
    if not isinstance(net, Network) and not callable(net):
        raise TypeError(
            f"{WHERE}: expected a network made by so3ntk.serial, or a kernel function such as so3ntk.augmented returns, got {net!r}."
        )
    check_kernel_name(kernel, WHERE)
    readout = readout_of(net.layers) if isinstance(net, Network) else None
    blocks = readout is not None and bool(readout.shape)
    found = None if blocks else pair_kernel(net, kernel)(jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), x), None)
    if getattr(found, "shape", None) != (1, 1):
        raise ValueError(
            f"{WHERE}: expected one number per pair of inputs, but this network has blocks or fields. End it with GroupPool()."
        )


def read_start(start: Any, data: Data, n: int, generator: np.random.Generator) -> Support:
    """The support before the first step: as given, or drawn from the data, as many of each class."""
    if start is None:
        return data.rows(_drawn(data, n, generator))
    if not isinstance(start, tuple) or len(start) != 2:
        raise TypeError(f"{WHERE}: expected start to be None or (inputs, targets), got {type(start).__name__}.")
    given = read_data(*start, classes=data.classes)
    if len(given) != n or given.y.shape[1] != data.y.shape[1]:
        raise ValueError(
            f"{WHERE}: expected a start of n = {n} inputs with {data.y.shape[1]} targets each, got {given.y.shape}."
        )
    shapes = [[leaf.shape[1:] for leaf in jax.tree.leaves(x)] for x in (given.x, data.x)]
    if jax.tree.structure(given.x) != jax.tree.structure(data.x) or shapes[0] != shapes[1]:
        raise ValueError(f"{WHERE}: expected start inputs like those of x, {shapes[1]}, got {shapes[0]}.")
    return given.rows(np.arange(n))


def _drawn(data: Data, n: int, generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Rows at random, class after class. ValueError for more than there are, and for unequal numbers of the classes."""
    if n > len(data):
        raise ValueError(f"{WHERE}: n = {n} support inputs cannot be drawn from {len(data)}. Lower n, or give a start.")
    if data.classes is None or data.labels is None:
        return generator.choice(len(data), n, replace=False)
    k = len(data.classes)
    if n % k:
        raise ValueError(
            f"{WHERE}: n = {n} is not a multiple of the {k} classes, so that they cannot have as many inputs each. Take "
            f"n = {k * max(1, round(n / k))}, or give a start."
        )
    counts = np.bincount(data.labels, minlength=k)
    if counts.min() < n // k:
        raise ValueError(
            f"{WHERE}: {n // k} inputs of each class were asked for, but {data.classes.tolist()[int(np.argmin(counts))]!r} has {counts.min()}."
        )
    each = [generator.choice(np.flatnonzero(data.labels == label), n // k, replace=False) for label in range(k)]
    return np.concatenate(each)


def read_learned(learn_inputs: bool, learn_labels: bool) -> tuple[bool, bool]:
    """What is learned. ValueError for nothing."""
    learned = check_flag(learn_inputs, WHERE, "learn_inputs"), check_flag(learn_labels, WHERE, "learn_labels")
    if not any(learned):
        raise ValueError(f"{WHERE}: nothing would be learned with learn_inputs=False and learn_labels=False.")
    return learned


def root_mean_square(x: ArrayLike | PyTree) -> float:
    """Over all entries; 1 where all are zero."""
    leaves = jax.tree.leaves(x)
    total = sum(float(np.vdot(leaf, leaf)) for leaf in leaves) / sum(leaf.size for leaf in leaves)
    return total**0.5 or 1.0
