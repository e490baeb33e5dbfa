"""A random signal and its values on grids, by scipy's harmonics."""

from __future__ import annotations

import numpy as np

from so3ntk.sphere.signals import SphereSignal
from tests.oracles.harmonics import harmonics
from tests.oracles.maps import vectors

EPS = np.finfo(float).eps
BANDLIMIT = 6
#: n = 2 signals with c = 2 channels.
SIGNAL = SphereSignal(np.random.default_rng(0).normal(size=(2, BANDLIMIT**2, 2)), BANDLIMIT)


def at(lat, lon):
    """The signals at broadcast latitudes and longitudes in degrees, (n, ..., c)."""
    places = vectors(np.radians(90 - np.asarray(lat, float)), np.radians(np.asarray(lon, float)))
    table = harmonics(places, range(BANDLIMIT))
    return np.einsum("...p,npc->n...c", table, np.asarray(SIGNAL.coefficients))


def on_grid(lat, lon):
    """The signals on a grid, (n, lat, lon, c)."""
    return at(np.asarray(lat)[:, None], np.asarray(lon))


def error(signal):
    """The largest difference from the coefficients of the signals."""
    return abs(np.asarray(signal.coefficients) - np.asarray(SIGNAL.coefficients)).max()
