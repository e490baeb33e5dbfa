"""Pictures of signals: what is drawn where, and what is refused."""

import re

import numpy as np
import pytest

import so3ntk
from tests.sphere.maps.cases import SIGNAL


def test_a_map_is_drawn(tmp_path):
    """The colours are the values of the signal at the places of the mesh, in the middle at zero, and there is a file."""
    plt = pytest.importorskip("matplotlib.pyplot")
    axes = so3ntk.plots.map(SIGNAL, 1, 1, title="two", label="u [K]", points=20, path=tmp_path / "map.png")
    mesh = axes.collections[0]
    longitude, latitude = np.degrees(np.moveaxis(mesh.get_coordinates(), -1, 0))
    values = SIGNAL.to_map(latitude[:, 0], longitude[0])[1, ..., 1]
    np.testing.assert_allclose(np.reshape(mesh.get_array(), values.shape), values, atol=1e-12)
    assert (latitude[0, 0], longitude[0, 0]) == pytest.approx((-90, -180))
    assert mesh.get_clim() == pytest.approx((-abs(values).max(), abs(values).max()))
    assert axes.get_title() == "two"
    assert (tmp_path / "map.png").stat().st_size > 10_000
    plt.close("all")


def test_positive_maps_and_given_axes():
    plt = pytest.importorskip("matplotlib.pyplot")
    x = so3ntk.SphereSignal(np.array([[[4.0], [0.1], [0.2], [0.3]]]), 2)
    axes = plt.subplot(projection="mollweide")
    assert so3ntk.plots.map(x, axes=axes, points=8) is axes
    low, high = axes.collections[0].get_clim()
    assert 0 < low < high
    plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        ((np.ones((2, 4, 1)),), {}, TypeError, "expected a SphereSignal, got a ndarray"),
        ((SIGNAL, 0, 2), {}, IndexError, "channel 2 is out of range for 2 channels"),
        ((SIGNAL, 2), {}, IndexError, "index 2 is out of range for 2 signals"),
        ((SIGNAL,), {"axes": 3}, ValueError, 'plt.subplot(projection="mollweide")'),
        ((SIGNAL,), {"symmetric": "yes"}, TypeError, "expected symmetric to be True or False"),
    ],
)
def test_what_is_refused(arguments, options, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        so3ntk.plots.map(*arguments, **options)
