"""Which values of a map count, and how much: masks, areas, weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from so3ntk.basics.arrays import FILL_RTOL, FILLS, on_host
from so3ntk.sphere.maps.pixels import Pixels

#: How far values of one place may be apart, relative to the spread of all, to count as the same.
SAME = 1e-3


def value_weights(pixels: Pixels, mask: Any, hidden: Any, weights: Any, where: str) -> Float[np.ndarray, "a x b"]:
    """The weight of each value, zero where it is left out; a is 1 or N, b is 1 or C.

    hidden: the mask of a masked array. ValueError for other shapes, negative weights, and for values that are no numbers
    and not left out.
    """
    total = pixels.weights[None, :, None]
    if weights is not None:
        total = _given_weights(weights, pixels, where)
    if mask is not None:
        total = total * ~_given_mask(mask, pixels, where)
    if hidden is not np.ma.nomask:
        total = total * ~np.reshape(hidden, pixels.flat.shape)
    if pixels.missing is not None:
        total = total * ~pixels.missing
    _check_finite(pixels, total, where)
    if pixels.closed:
        _check_seam(pixels, total > 0, where)
    return total


def alike(
    weights: Float[np.ndarray, "a x b"], n: int, channels: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which maps and which of their channels (k,) have the same weights (x,), and these."""
    rows = np.moveaxis(weights, 1, -1).reshape(-1, weights.shape[1])
    places: dict[bytes, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.tobytes(), []).append(place)
    number = np.empty(len(rows), int)
    for group, members in enumerate(places.values()):
        number[members] = group
    of_value = np.broadcast_to(number.reshape(weights.shape[0], weights.shape[2]), (n, channels))
    for group, members in enumerate(places.values()):
        maps, chosen = np.nonzero(of_value == group)
        yield maps, chosen, rows[members[0]]


def _given_weights(weights: Any, pixels: Pixels, where: str) -> np.ndarray:
    given = on_host(weights, f"{where}: the weights")
    if given is None or given.dtype.kind not in "biuf":
        raise TypeError(f"{where}: expected weights that are concrete real numbers.")
    found = _per_value(given.astype(np.float64), pixels, "weights", where)
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise ValueError(f"{where}: expected finite weights that are zero or positive. Leave values out by mask=.")
    return found


def _given_mask(mask: Any, pixels: Pixels, where: str) -> np.ndarray:
    given = on_host(mask, f"{where}: the mask")
    if given is None or (given.dtype.kind != "b" and not np.isin(given, (0, 1)).all()):
        raise TypeError(f"{where}: expected a mask of True, which leaves a value out, and False.")
    return _per_value(given.astype(bool), pixels, "a mask", where)


def _per_value(given: np.ndarray, pixels: Pixels, name: str, where: str) -> np.ndarray:
    """(a, x, b) of what is given for each place, each place of each map, or each value."""
    n, *_, channels = pixels.values.shape
    x = len(pixels.weights)
    kept = {
        (n, *pixels.shape, channels): (n, x, channels),
        (n, *pixels.shape, 1): (n, x, 1),
        (1, *pixels.shape, 1): (1, x, 1),
        (n, *pixels.shape): (n, x, 1),
        pixels.shape: (1, x, 1),
    }
    if given.shape not in kept:
        raise ValueError(
            f"{where}: expected {name} of shape {pixels.shape}, {(n, *pixels.shape)} or {pixels.values.shape}, got {given.shape}."
        )
    return given.reshape(kept[given.shape])


def _check_finite(pixels: Pixels, weights: np.ndarray, where: str) -> None:
    """ValueError for NaN, infinity and what files hold in place of a value, if they are not left out."""
    if pixels.values.dtype.kind != "f":
        return
    fills = {name: abs(pixels.flat - fill) <= FILL_RTOL * abs(fill) for fill, name in FILLS.items()}
    bad = ~np.isfinite(pixels.flat) & (weights > 0)
    for filled in fills.values():
        bad |= filled & (weights > 0)
    if not bad.any():
        return
    place = tuple(np.argwhere(bad)[0])
    index = tuple(int(i) for i in np.argwhere(bad.reshape(pixels.values.shape))[0])
    meaning = next((f": {name}" for name, filled in fills.items() if filled[place]), "")
    value = pixels.values[index]
    remedy = "np.isnan(values)" if np.isnan(value) else "abs(values) > 1e29"
    raise ValueError(
        f"{where}: the values hold {value} at index {index}{meaning}, which is not masked ({int(bad.sum())} such values). To "
        f"leave them out, pass mask={remedy}."
    )


def _check_seam(pixels: Pixels, used: Bool[np.ndarray, "a x b"], where: str) -> None:
    """ValueError if a meridian that is there twice, as the first column and as the last, has two different values."""
    known = np.broadcast_to(used, pixels.flat.shape).reshape(pixels.values.shape)
    values = np.where(known, pixels.values, 0).astype(np.float64)
    off = abs(values[:, :, 0] - values[:, :, -1]) * (known[:, :, 0] & known[:, :, -1])
    spread = values.max(where=known, initial=-np.inf) - values.min(where=known, initial=np.inf)
    if off.max(initial=0.0) > SAME * spread:
        n, row, _ = (int(i) for i in np.unravel_index(off.argmax(), off.shape))
        raise ValueError(
            f"{where}: the first and the last longitude are one meridian, but the values there differ (map {n}, row {row}). If "
            "the columns are all different, their longitudes are np.linspace(0, 360, columns, endpoint=False) or the like; else "
            "drop one of the two."
        )
