"""What a layer must say to couple motions where the engine evaluates them one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from so3ntk.engine.layers.base import Layer
from so3ntk.engine.state import State


class Coarsening(Layer):
    """A layer after which only a coarse lattice of motions is left, each made of several motions before it.

    The variances after it are kernels of f with itself at other motions, so the states before it carry self states.
    """

    @property
    def pointwise(self) -> bool:
        """False: several motions meet."""
        return False

    @abstractmethod
    def collect(self, states: Callable[[Any], State], motions: Any) -> tuple[Callable[[Any], State], Any]:
        """From the states at all motions (leading axis of the pytree ``motions``) to those at the coarse ones."""
