"""What a random filter sees of the group. A geometry averages over each kind that it knows, and refuses the others by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx


class Filter:
    """A kind of filters. ``Geometry.average`` is the covariance that white noise on what it sees gives a field."""


@dataclass(frozen=True)
class Everywhere(Filter):
    """The whole space: the average over all positions."""


@dataclass(frozen=True)
class Cap(Filter):
    """All within an angle, in radians, of a position, in the metric of its space: a cap, an arc, a box."""

    angle: float


class Spectrum(eqx.Module, Filter):
    """A variance for each degree of a function on the group: couples motions. Degrees beyond the last have none."""

    variances: Any


def within(angle: float | None) -> Filter:
    """A cap, or everywhere for None."""
    return Everywhere() if angle is None else Cap(angle)
