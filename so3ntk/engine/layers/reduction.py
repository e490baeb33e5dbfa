"""What a layer must say to sum a network's outputs over the parts of its inputs (the atoms of a molecule)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np

from so3ntk.engine.layers.base import Layer


class Parts(NamedTuple):
    """The parts of a batch of composite inputs.

    signals: the parts' signals, as a first layer reads them. owner: for each part the input it belongs to, sorted.
    kind: for each part an integer; only parts of equal kind have a kernel with each other. count: inputs.
    """

    signals: Any
    owner: np.ndarray
    kind: np.ndarray
    count: int


class Composition(NamedTuple):
    """How many parts of each name the inputs of a batch have, (n, labels)."""

    labels: tuple[str, ...]
    counts: np.ndarray


class Reduction(Layer):
    """A sum of the outputs over parts, K(M, M') = sum_ij K(f_i, f'_j): evaluated by the Gram engine, never as a state."""

    @abstractmethod
    def parts(self, x: Any) -> Parts:
        """The parts of a batch."""

    @abstractmethod
    def take(self, x: Any, index: np.ndarray) -> Any:
        """Some parts of a batch, each an input of its own: what kernels of inputs with single parts are computed of."""

    def composition(self, x: Any) -> Composition | None:
        """What the inputs are made of, if parts have names."""
        return None

    def check_pair(self, x1: Any, x2: Any) -> None:
        """Raises ValueError for two batches, each of which has parts, but which do not belong together."""

    def check_finite(self) -> None:
        """Raises NotImplementedError where the sum's finite network has more than one set of weights."""

    def __call__(self, state: Any) -> Any:
        """Refused: a state knows one pair of parts."""
        raise ValueError(
            f"{type(self).__name__}: a sum over parts cannot stand inside a block or branch; put it in the outer serial."
        )
