"""The fit of a map with what it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import float_dtype
from so3ntk.sphere.maps.fit import fit
from so3ntk.sphere.signals import SphereSignal


@dataclass(frozen=True)
class MapFit:
    """Signals fitted to maps, and how well they are known."""

    signal: SphereSignal
    #: |f - Y a| / |f| of each map in the weighted norm, all channels together: rounding for a signal of the bandlimit.
    residual: Float[np.ndarray, " n"]
    #: The root of the normal matrix's condition number (an estimate in the 1-norm), the largest of all maps: 1 where values
    #: cover the sphere evenly. Errors of the values, and what higher degrees leave, reach the coefficients enlarged by it at
    #: most; from 10,000 on a fit is refused.
    condition: float


def fit_map(
    values: Any, *, bandlimit: int, lat: Any = None, lon: Any = None, mask: Any = None, weights: Any = None,
    ridge: float = 0.0, nest: bool | None = None,
) -> MapFit:  # fmt: skip
    """``SphereSignal.from_map`` with the residuals and the condition; without its warning."""
    found = fit(values, lat, lon, bandlimit, mask, weights, ridge, nest, "fit_map")
    signal = SphereSignal(found.coefficients.astype(float_dtype(found.dtype)), int(bandlimit))
    return MapFit(signal, found.residual, found.condition)
