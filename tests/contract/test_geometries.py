"""The packages' own geometries under the laws of the protocol, one pair of signals each."""

import numpy as np
import pytest

from planar.geometry import GlobalGeometry, Tiles
from so3ntk import ProductGrid
from so3ntk.engine.filters import Cap, Everywhere, Spectrum
from so3ntk.sphere.global_support import SphereGeometry
from so3ntk.sphere.o3 import OrthogonalGeometry
from so3ntk.sphere.transforms.grid import Grid
from so3ntk.testing import check_geometry

SPHERE = SphereGeometry(Grid.load(ProductGrid(8), 3, np.float64))
SPECTRUM = Spectrum(np.array([1.0, 0.5, 2.0]))
CASES = {
    "sphere": (SPHERE, (9, 2), (Everywhere(), Cap(0.5), SPECTRUM)),
    "O(3)": (OrthogonalGeometry(SPHERE), (9, 2), (Everywhere(), Cap(0.5), SPECTRUM)),
    "images, global": (GlobalGeometry("D4"), (4, 4, 2), (Tiles(2),)),
}


@pytest.mark.parametrize(("geometry", "shape", "filters"), CASES.values(), ids=CASES)
def test_laws(geometry, shape, filters):
    check_geometry(geometry, *np.random.default_rng(0).normal(size=(2, *shape)), filters)
