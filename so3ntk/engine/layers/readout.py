"""What a layer must say that ends the group: it turns a kernel of motions into one number or block per pair."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TypeVar

import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.geometry import Field, Geometry, Point
from so3ntk.engine.irrep import Irrep
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.state import State

#: A kernel of pairs on the device, or on the host where grids are measured.
Block = TypeVar("Block", Float[Array, " ..."], Float[np.ndarray, " ..."])


class Readout(Layer):
    """A projection of fields on one irrep of the motions."""

    @property
    @abstractmethod
    def irrep(self) -> Irrep | None:
        """What it projects on; None for the mean over all motions, a number."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the block of one pair; () for a number."""

    @property
    def copies(self) -> int:
        """By how much it multiplies the channels of the finite network."""
        return 1 if self.irrep is None else self.irrep.size

    def channels_after(self, channels: int) -> int:
        """The channels times ``copies``."""
        return channels * self.copies

    @property
    def after(self) -> Geometry:
        """The geometry of what is left."""
        return Point()

    def finish(self, block: Block) -> Block:
        """The block in the readout's basis, from that of real harmonics."""
        return block

    def read(self, geometry: Geometry, field: Field) -> Float[Array, " ..."]:
        """The block of one field."""
        block = geometry.mean(field) if self.irrep is None else geometry.project(field, self.irrep)
        return self.finish(block)

    def probe(self, state: State) -> State:
        """A state of values at motions, each of them as if it were read out already."""
        width = None if state.width is None else state.width * self.copies
        return dataclasses.replace(state, geometry=self.after, width=width)

    @property
    def pointwise(self) -> bool:
        """False: all motions meet."""
        return False

    def __call__(self, state: State) -> State:
        """The state after the readout."""
        return state.read(self.read, self.after, self.copies)
