r"""Motions of images for ``so3ntk.augmented`` and ``so3ntk.augment_dataset``: reflection, quarter turns, cyclic shifts.

A motion reverses the columns or not, then turns by ``rot90``, then shifts by ``roll``, :math:`\rho = T_d R^k M^m`. With

.. math:: M R = R^{-1} M, \qquad R\, T_{(a, b)} = T_{(-b, a)} R, \qquad M\, T_{(a, b)} = T_{(a, -b)} M

two of them compose to a third. That holds for images of any size, even or odd, as turns are about the image's centre. Of
rectangles the motions have no quarter turns, k = 0 or 2, and shifts count modulo each side.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import jax
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


def _moved(image: Int[np.ndarray, "h w"], motion: ImageMotion) -> Int[np.ndarray, "h w"]:
    turned = np.rot90(image[:, ::-1] if motion.mirrored else image, motion.turns)
    return np.roll(turned, motion.shift, axis=(0, 1))


@jax.jit  # one program for all motions
def _taken(images: Float[Array, "n h w c"], places: Int[Array | np.ndarray, "h w"]) -> Float[Array, "n h w c"]:
    """The pixels at these places, which count row by row."""
    return images.reshape(len(images), -1, images.shape[-1])[:, places]


class ImageMotions(MotionList):
    """Any list of motions of images; ``motions`` makes those that are groups.

    motions: tuples (turns, mirrored, shift). size: pixels along one side of squares, or (rows, columns); needed for
    shifts, which count modulo each side, and kept as a pair. Raises TypeError and ValueError for anything else, and for
    quarter turns of rectangles.
    """

    def __init__(self, motions: Iterable[tuple], size: int | tuple[int, int] | None = None):
        self.size = None if size is None else _sides(size, "planar.ImageMotions")
        self.motions = tuple(_checked(i, motion, self.size) for i, motion in enumerate(motions))
        self._quarter = next((i for i, motion in enumerate(self.motions) if motion.turns % 2), None)
        if self.size is not None:
            self._check_turns(self.size)
        self._modulus = self.size or (1, 1)
        self._numbers = np.array([(m.turns, m.mirrored, *m.shift) for m in self.motions], int).reshape(-1, 4)
        self._places = np.full(8 * math.prod(self._modulus), -1)
        for place in reversed(range(len(self))):  # the first of equal ones
            self._places[self._codes(self._numbers[place])] = place

    def __len__(self) -> int:
        return len(self.motions)

    def move(self, x: Any, index: int) -> Float[Array, "n h w c"]:
        """The images moved; integers become floats. ValueError for images of another size, or whose sides turns exchange."""
        images = read_images(x, "planar.ImageMotions", group=None)
        rows, columns = images.shape[1:3]
        if self.size is not None and (rows, columns) != self.size:
            raise ValueError(
                f"planar.ImageMotions: these are motions of images of {self.size[0]} x {self.size[1]} pixels, got images of "
                f"{rows} x {columns}."
            )
        self._check_turns((rows, columns))
        return _taken(images, _moved(np.arange(rows * columns).reshape(rows, columns), self.motions[index]))

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

    def _check_turns(self, size: tuple[int, int]) -> None:
        """ValueError for a quarter turn, if there is one, of rectangles."""
        if self._quarter is not None and size[0] != size[1]:
            raise ValueError(
                f"planar.ImageMotions: expected square images, got {size[0]} x {size[1]} pixels: {self.describe(self._quarter)}"
                f" (motion {self._quarter}) would exchange their sides. Crop or pad them, or use half turns, "
                'planar.motions("C2").'
            )

    def _codes(self, numbers: Int[np.ndarray, "4 ..."]) -> Int[np.ndarray, ...]:
        """One number for each motion, the same for equal ones."""
        turns, mirrored, rows, columns = numbers
        n, m = self._modulus
        return ((mirrored * 4 + turns % 4) * n + rows % n) * m + columns % m


def motions(group: str = "C1", size: int | tuple[int, int] | None = None, stride: int = 1) -> ImageMotions:
    """The motions of a group of ``GROUPS``; with a size also all cyclic shifts of such images by multiples of ``stride``.

    ``motions("C4")`` turns the kernel of a CNN into that of the C4 network, ``motions("C1", size=n)`` that of a fully
    connected network into that of a CNN with global support. size: as for ``ImageMotions``. Order: elements as in
    ``GROUPS``, then rows, then columns. Raises ValueError for an unknown group, rectangles where it has quarter turns, and
    a stride that does not divide both sides: its shifts are not a group.
    """
    elements = GROUPS[check_group(group, "planar.motions")]
    if size is None:
        if stride != 1:
            raise ValueError(f"planar.motions: a stride ({stride}) needs the size of the images.")
        return ImageMotions([(*element, (0, 0)) for element in elements])
    sides = _sides(size, "planar.motions")
    if not _is_positive(stride):
        raise ValueError(f"planar.motions: expected stride to be a positive integer, got {stride!r}.")
    if any(side % stride for side in sides):
        raise ValueError(
            f"planar.motions: the stride {stride} does not divide the size {size}, so the shifts by its multiples are "
            "not a group."
        )
    shifts = list(product(*(range(0, side, stride) for side in sides)))
    return ImageMotions([(*element, shift) for element in elements for shift in shifts], sides)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) > 0


def _sides(size: Any, where: str) -> tuple[int, int]:
    """Pixels along both sides, of one number for squares. ValueError for anything else."""
    sides = (size, size) if _is_positive(size) else size
    if not isinstance(sides, tuple | list) or len(sides) != 2 or not all(map(_is_positive, sides)):
        raise ValueError(f"{where}: expected size to be a positive integer or two, (rows, columns), got {size!r}.")
    return int(sides[0]), int(sides[1])


def _checked(index: int, motion: Any, size: tuple[int, int] | None) -> ImageMotion:
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
    rows, columns = (n % side for n, side in zip(numbers[2:], size or (1, 1), strict=True))
    return ImageMotion(numbers[0] % 4, bool(mirrored), (rows, columns))
