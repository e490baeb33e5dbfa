"""What induces, and what an input is made of: atoms for molecules, inputs themselves elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from so3ntk.engine.layers.reduction import Composition
from so3ntk.engine.network import Network
from so3ntk.engine.plan import parts_of, read_signals, split_at_reduction

#: Inputs of which features are computed at a time, and one store is made: a few seconds of work.
BLOCK = 256


def blocks(x: Any) -> Iterator[tuple[slice, Any]]:
    """A batch in runs of ``BLOCK`` inputs, so that one that is read or computed when it is sliced is never there as a whole."""
    for start in range(0, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        yield rows, x[rows]


def take(net: Network, x: Any, index: np.ndarray) -> Any:
    """Parts of a batch, each an input of its own."""
    reduction = split_at_reduction(net.layers)[1]
    return x[index] if reduction is None else reduction.take(x, index)


def kinds_of(net: Network, x: Any) -> np.ndarray:
    """The kind of each part."""
    return np.asarray(parts_of(split_at_reduction(net.layers)[1], x).kind)


def composition_of(net: Network, x: Any) -> Composition | None:
    """What the inputs are made of, where the network sums over parts that have names."""
    reduction = split_at_reduction(net.layers)[1]
    return None if reduction is None else reduction.composition(x)


def in_double(net: Network, x: Any) -> Any:
    """A batch in float64, in a context in which JAX has 64 bits; of a data set that is no array, the arrays that ``net`` reads."""
    if not all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(x)):
        x = read_signals(net.layers, x)
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, x)


def counts_of(found: Composition, labels: tuple[str, ...], where: str) -> Float[np.ndarray, "n labels"]:
    """The counts of known labels. ValueError naming an input with another: its contribution is not known."""
    unknown = [label for label in found.labels if label not in labels]
    for label in unknown:
        rows = np.flatnonzero(found.counts[:, found.labels.index(label)])
        if len(rows):
            raise ValueError(
                f"{where}: input {rows[0]} holds {label}, which no training input did ({', '.join(labels)}): its contribution "
                "is unknown. Put an input with it into the training set."
            )
    place = {label: column for column, label in enumerate(found.labels)}
    return np.stack(
        [found.counts[:, place[label]] if label in place else np.zeros(len(found.counts)) for label in labels], axis=1
    ).astype(np.float64)
