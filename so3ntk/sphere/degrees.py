"""Which degrees features on the group have: what an irrep readout can ask for."""

from __future__ import annotations

import math
from typing import Any

from so3ntk.engine.layers.base import Layer
from so3ntk.engine.layers.combinators import Parallel
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.layers.source import Lifting
from so3ntk.sphere.layers.group_conv import GroupConv


def require_degrees(layers: tuple[Layer, ...], signals: int) -> None:
    """ValueError for a readout of a degree that the features of signals of a bandlimit do not have: its kernel is zero.

    A nonlinearity creates all degrees; a filter of bandlimit L keeps those below L. Branches are not followed.
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
            bandlimit = math.inf
        elif isinstance(layer, Readout) and layer.irrep is not None and _degree(layer.irrep) >= bandlimit:
            raise ValueError(
                f"IrrepPool: the features have the degrees l < {bandlimit} ({cause}), so that l = {_degree(layer.irrep)} is "
                "zero for all inputs. Ask for a lower l, raise the bandlimit, or put a nonlinearity between."
            )


def _degree(irrep: Any) -> int:
    return irrep.degree
