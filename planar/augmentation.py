r"""Motions of images for ``so3ntk.augmented`` and ``so3ntk.augment_dataset``: reflection, quarter turns, cyclic shifts.

A motion reverses the columns or not, then turns by ``rot90``, then shifts by ``roll``, :math:`\rho = T_d R^k M^m`. With

.. math:: M R = R^{-1} M, \qquad R\, T_{(a, b)} = T_{(-b, a)} R, \qquad M\, T_{(a, b)} = T_{(a, -b)} M

two of them compose to a third. That holds for images of any size, even or odd, as turns are about the image's centre.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from planar.groups import GROUPS, check_group
from planar.layers import read_images
from so3ntk.learning.augmentation import MotionList


class ImageMotion(NamedTuple):
    """Reverse the columns if mirrored, then turn by ``rot90`` by ``turns``, then shift by (rows, columns), cyclically."""

    turns: int = 0
    mirrored: bool = False
    shift: tuple[int, int] = (0, 0)


class ImageMotions(MotionList):
    """Any list of motions of square images; ``motions`` makes those that are groups.

    motions: tuples (turns, mirrored, shift). size: pixels along one side, needed for shifts, which count modulo it.
    Raises TypeError and ValueError for anything else.
    """

    def __init__(self, motions: Iterable[tuple], size: int | None = None):
        self.motions = tuple(_checked(i, motion, size) for i, motion in enumerate(motions))
        self.size = size
        self._modulus = size or 1
        self._numbers = np.array([(m.turns, m.mirrored, *m.shift) for m in self.motions], int).reshape(-1, 4)
        self._places = np.full(8 * self._modulus**2, -1)
        for place in reversed(range(len(self))):  # the first of equal ones
            self._places[self._codes(self._numbers[place])] = place

    def __len__(self) -> int:
        return len(self.motions)

    def move(self, x: Any, index: int) -> Float[Array, "n h w c"]:
        """The images moved; integers become floats. ValueError for images of another size."""
        images = read_images(x, "planar.ImageMotions")
        if self.size is not None and images.shape[1] != self.size:
            raise ValueError(
                f"planar.ImageMotions: these are motions of images of {self.size} x {self.size} pixels, got images of "
                f"{images.shape[1]} x {images.shape[2]}."
            )
        turns, mirrored, shift = self.motions[index]
        turned = jnp.rot90(images[:, :, ::-1] if mirrored else images, turns, axes=(1, 2))
        return jnp.roll(turned, shift, axis=(1, 2)) if any(shift) else turned

    def join(self, parts: Sequence[Any]) -> Float[Array, "n h w c"]:
        """All images in one array."""
        return jnp.concatenate(parts)

    def products(self, index: int) -> Int[np.ndarray, " n"]:
        """By the rules at the head of this file."""
        turns, mirrored, rows, columns = self._numbers.T
        first, flip, down, right = self._numbers[index]
        shift = np.stack([rows, -columns if flip else columns])
        for _ in range(first):
            shift = np.stack([-shift[1], shift[0]])
        found = np.stack([first + (-turns if flip else turns), flip ^ mirrored, down + shift[0], right + shift[1]])
        return self._places[self._codes(found)]

    def describe(self, index: int) -> str:
        """Reflection, turn and shift."""
        turns, mirrored, shift = self.motions[index]
        parts = ["the reflection of the columns"] if mirrored else []
        parts += [f"the turn by {90 * turns} degrees"] if turns else []
        parts += [f"the shift by {shift}"] if any(shift) else []
        return ", then ".join(parts) or "the identity"

    def _codes(self, numbers: Int[np.ndarray, "4 ..."]) -> Int[np.ndarray, ...]:
        """One number for each motion, the same for equal ones."""
        turns, mirrored, rows, columns = numbers
        n = self._modulus
        return ((mirrored * 4 + turns % 4) * n + rows % n) * n + columns % n


def motions(group: str = "C1", size: int | None = None, stride: int = 1) -> ImageMotions:
    """The motions of a group of ``GROUPS``; with a size also all cyclic shifts of such images by multiples of ``stride``.

    ``motions("C4")`` turns the kernel of a CNN into that of the C4 network, ``motions("C1", size=n)`` that of a fully
    connected network into that of a CNN with global support. Order: elements as in ``GROUPS``, then rows, then columns.
    Raises ValueError for an unknown group, and a stride that does not divide the size: its shifts are not a group.
    """
    elements = GROUPS[check_group(group, "planar.motions")]
    if size is None:
        if stride != 1:
            raise ValueError(f"planar.motions: a stride ({stride}) needs the size of the images.")
        return ImageMotions([(*element, (0, 0)) for element in elements])
    for name, value in (("size", size), ("stride", stride)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"planar.motions: expected {name} to be a positive integer, got {value!r}.")
    if size % stride:
        raise ValueError(
            f"planar.motions: the stride {stride} does not divide the size {size}, so the shifts by its multiples are "
            "not a group."
        )
    steps = range(0, size, stride)
    return ImageMotions([(*element, shift) for element in elements for shift in product(steps, steps)], size)


def _checked(index: int, motion: Any, size: int | None) -> ImageMotion:
    """The motion with 0 <= turns < 4 and its shift modulo the size. TypeError and ValueError for what is none."""
    where = f"planar.ImageMotions: motion {index}"
    try:
        turns, mirrored, (rows, columns) = motion = ImageMotion(*motion)
        numbers = [operator.index(n) for n in (turns, bool(mirrored), rows, columns)]
    except TypeError:
        raise TypeError(
            f"{where}: expected (turns, mirrored, (rows, columns)) with integers, got {motion!r}."
        ) from None
    if size is None and any(numbers[2:]):
        raise ValueError(f"{where} shifts by {motion.shift}: cyclic shifts need the size of the images, size=.")
    rows, columns = (n % size if size else 0 for n in numbers[2:])
    return ImageMotion(numbers[0] % 4, bool(mirrored), (rows, columns))
