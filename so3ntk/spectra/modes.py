r"""By how much filters multiply each mode of a field: degrees for caps, Fourier modes for windows.

A field on the sphere of degree l goes through an average over caps times w_l (``sphere/positions``), a field on an n x n
torus with the wave numbers (a, b) through a circular k x k window times

.. math:: w_{ab} = s(a)\, s(b), \qquad s(a) = \frac1k \Bigl|\sum_{j < k} e^{2 \pi i a j / n}\Bigr| \cdot \mathrm{sign}

with the sign of the real sum for odd windows, which are centred. Windows of even size also shift: their w is the modulus.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from jaxtyping import Float

from planar.windows import Window
from so3ntk.engine.filters import Cap, Everywhere, Filter
from so3ntk.sphere.positions import cap_multipliers


@singledispatch
def mode_labels(filter: Filter, modes: int) -> tuple[Any, ...]:
    """Names of the modes of the fields that a filter acts on; none for a filter of which none are known."""
    return ()


@mode_labels.register
def _(filter: Cap, modes: int) -> tuple[Any, ...]:
    return tuple(range(modes))


@mode_labels.register
def _(filter: Window, modes: int) -> tuple[Any, ...]:
    if filter.padding != "CIRCULAR":
        return ()
    half = modes // 2 + 1
    pairs = [(b, a) for a in range(half) for b in range(a + 1)]
    return tuple(sorted(pairs, key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair)))


@singledispatch
def multipliers(filter: Filter, labels: Sequence[Any], modes: int) -> Float[np.ndarray, " modes"]:
    """w of each mode. Of an average over everything: 1 of the constant and 0 of the others."""
    raise TypeError(f"no multipliers are known of {filter!r}")


@multipliers.register
def _(filter: Everywhere, labels: Sequence[Any], modes: int) -> Float[np.ndarray, " modes"]:
    return np.array([float(not np.any(label)) for label in labels])


@multipliers.register
def _(filter: Cap, labels: Sequence[Any], modes: int) -> Float[np.ndarray, " modes"]:
    return cap_multipliers(filter.angle, modes)


@multipliers.register
def _(filter: Window, labels: Sequence[Any], modes: int) -> Float[np.ndarray, " modes"]:
    wave = np.exp(2j * np.pi * np.outer(np.arange(modes), filter.offsets) / modes).mean(axis=1)
    along = wave.real if filter.size % 2 else np.abs(wave)
    return np.array([along[a] * along[b] for a, b in labels])
