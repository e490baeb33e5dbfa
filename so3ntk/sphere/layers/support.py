"""Checks of the supports of filters on the sphere and on SO(3)."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def check_support(where: str, support: float | None, bandlimit: Any, variances: Any) -> float | None:
    """None for global support (None or pi, in single precision too), else the half-angle of the cap.

    ValueError outside (0, pi], and for a cap together with a spectrum: a filter cut to a cap has all degrees.
    """
    if support is None:
        return None
    if isinstance(support, bool) or not isinstance(support, Real) or not 0 < support <= math.pi + 1e-6:
        raise ValueError(
            f"{where}: expected support, the half-angle of the filters' cap, in (0, pi] radians or None, got {support!r}."
        )
    support = float(support)
    if support > math.pi - 1e-12:
        return None
    if bandlimit is not None or variances is not None:
        raise ValueError(
            f"{where}: support={support:.4g} cuts filters to a cap, bandlimit= and variances= are for filters on the "
            "whole sphere. Give one or the other; to limit the detail of the signals use x.with_bandlimit."
        )
    return support
