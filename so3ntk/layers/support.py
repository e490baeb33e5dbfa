"""Checks of the supports and spectra of filters on the sphere and on SO(3)."""

from __future__ import annotations

import math


def check_support(where: str, support: float | None) -> float | None:
    """None for global support (None or pi); NotImplementedError for a smaller cap, ValueError outside (0, pi]."""
    if support is None:
        return None
    if isinstance(support, bool) or not isinstance(support, int | float) or not 0 < support <= math.pi + 1e-12:
        raise ValueError(
            f"{where}: expected support, the half-angle of the filters' cap, in (0, pi] radians or None, got {support!r}."
        )
    if support < math.pi - 1e-12:
        raise NotImplementedError(
            f"{where}: support={support:.4g} < pi asks for local filters, which are not implemented yet. "
            "Use support=None (the whole sphere); to limit the detail filters see, use bandlimit= or variances=."
        )
    return None
