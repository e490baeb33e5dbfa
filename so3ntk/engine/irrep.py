"""What the engine must know of an irreducible representation of a group."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Irrep(Protocol):
    """A block that a readout projects on: each group has a class of its own, hashable and compared by value."""

    @property
    def size(self) -> int:
        """Its dimension."""
        ...

    @property
    def is_trivial(self) -> bool:
        """Whether it is that of numbers which do not change, to which constants belong."""
        ...
