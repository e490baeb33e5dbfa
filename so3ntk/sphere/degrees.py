"""Which degrees features on the group have: what an irrep readout can ask for, and what a quadrature has to integrate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.combinators import Composite, FanInSum, FanOut, Parallel
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.source import Lifting
from so3ntk.sphere.layers.group_conv import GroupConv


def require_degrees(layers: tuple[Layer, ...], signals: int) -> None:
    """ValueError for a readout of a degree that the features of signals of a bandlimit do not have: its kernel is zero.

    A nonlinearity creates all degrees, one that is a polynomial those up to a multiple; a filter of bandlimit L keeps those
    below L. Branches are not followed.
    """
    bandlimit, cause = math.inf, ""
    for layer in layers:
        if isinstance(layer, Parallel):
            return
        if isinstance(layer, Lifting):
            lift: Any = layer
            bandlimit = lift.kept_bandlimit(signals)
            cause = f"signals of bandlimit {signals} lifted with bandlimit={lift.bandlimit}"
        elif isinstance(layer, GroupConv) and layer.bandlimit is not None and layer.bandlimit < bandlimit:
            bandlimit, cause = layer.bandlimit, f"GroupConv(bandlimit={layer.bandlimit})"
        elif layer.uses_variances and bandlimit > 1:  # a constant stays one
            bandlimit = 1 + _raised(bandlimit - 1, layer)
            cause = f"{cause}, then {type(layer).__name__}"
        elif isinstance(layer, Readout) and layer.irrep is not None and _degree(layer.irrep) >= bandlimit:
            raise ValueError(
                f"IrrepPool: the features have the degrees l < {bandlimit} ({cause}), so that l = {_degree(layer.irrep)} is "
                "zero for all inputs. Ask for a lower l, raise the bandlimit, or put a nonlinearity between."
            )


def _degree(irrep: Any) -> int:
    return irrep.degree


class Degrees(NamedTuple):
    """degree: of the field, the highest; infinite where it is no polynomial in the signals. sampled: whether it is kept as
    samples. integrated: the highest degree of what was integrated over rotations. pooled: whether they are gone."""

    degree: float = 0
    sampled: bool = False
    integrated: float = 0
    pooled: bool = False


def integrated_degree(layers: Sequence[Layer], signals: int, finite: bool = False) -> int | None:
    """The highest degree that the quadrature of a network integrates, for signals of a bandlimit; None if there is none.

    A field of degree d is integrated against D^l at an irrep's readout (d + l) and at a filter of bandlimit l + 1; a
    polynomial layer multiplies degrees. finite: of the finite network, whose features have the degrees of its fields: each
    filter analyses these, white-noise filters all of them, for which half of what the grid integrates is kept.
    """
    end = _after_all(layers, Degrees(), signals, finite)
    if not isinstance(end, Degrees):
        return None
    degree = end.integrated if end.pooled else max(end.integrated, end.degree)
    return None if math.isinf(degree) else int(degree)


def _after_all(layers: Sequence[Layer], at: Any, signals: int, finite: bool) -> Any:
    for layer in layers:
        if isinstance(at, Degrees) == isinstance(layer, Parallel | FanInSum):
            return Degrees(math.inf)  # branches that do not fit, which the layer says when it is evaluated
        at = _after(layer, at, signals, finite)
    return at


@singledispatch
def _after(layer: Layer, at: Any, signals: int, finite: bool) -> Any:
    """The degrees after one layer, a tuple of branches; a layer that couples motions in a way not known here has none."""
    if at.pooled or (layer.pointwise and not layer.uses_variances):
        return at
    return at._replace(degree=_raised(at.degree, layer), sampled=True)


def _raised(degree: float, layer: Layer) -> float:
    """The degree after a nonlinearity, or another layer of which it is not known."""
    power = layer.polynomial_degree if layer.pointwise else None
    return 0 if degree == 0 else math.inf if power is None else degree * power


@_after.register
def _(layer: Lifting, at: Any, signals: int, finite: bool) -> Any:
    lift: Any = layer
    return Degrees(lift.kept_bandlimit(signals) - 1)


@_after.register
def _(layer: GroupConv, at: Any, signals: int, finite: bool) -> Any:
    if layer.bandlimit is None:
        return at._replace(integrated=max(at.integrated, 2 * at.degree + 1)) if finite else at
    integrated = max(at.integrated, at.degree + layer.bandlimit - 1) if at.sampled or finite else at.integrated
    return at._replace(degree=min(at.degree, layer.bandlimit - 1), sampled=False, integrated=integrated)


@_after.register
def _(layer: Readout, at: Any, signals: int, finite: bool) -> Any:
    added = 0 if layer.irrep is None else _degree(layer.irrep)
    return at._replace(integrated=max(at.integrated, at.degree + added), pooled=True)


@_after.register
def _(layer: Composite, at: Any, signals: int, finite: bool) -> Any:
    return _after_all(layer.layers, at, signals, finite)


@_after.register
def _(layer: FanOut, at: Any, signals: int, finite: bool) -> Any:
    return (at,) * layer.branches


@_after.register
def _(layer: Parallel, at: Any, signals: int, finite: bool) -> Any:
    return tuple(_after_all([inner], own, signals, finite) for inner, own in zip(layer.layers, at, strict=False))


@_after.register
def _(layer: FanInSum, at: Any, signals: int, finite: bool) -> Any:
    return Degrees(*(max(values) for values in zip(*at, strict=True)))
