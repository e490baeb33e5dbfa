"""Couplings of three degrees, and the components that products of two degrees have of a third."""

import jax
import numpy as np
import pytest

from so3ntk import ProductGrid, random_rotations
from so3ntk.sphere.coupling import coupled_count, coupled_squares, coupling
from so3ntk.sphere.rotations import real_wigner_D

TURN = random_rotations(1, seed=3)


@pytest.mark.parametrize(
    "degrees", [(0, 0, 0), (0, 2, 2), (1, 0, 1), (1, 1, 1), (1, 1, 2), (2, 1, 3), (2, 3, 3), (3, 5, 6)]
)
def test_invariant_tensors(degrees):
    """Rotations of all three leave it alone, and it has norm one."""
    tensor = coupling(*degrees)
    turned = np.einsum("abc,ai,bj,ck->ijk", tensor, *(real_wigner_D(degree, TURN)[0] for degree in degrees))
    np.testing.assert_allclose(turned, tensor, atol=1e-14)
    np.testing.assert_allclose(np.sum(tensor**2), 1, rtol=1e-14)


def test_integrals_of_three_matrices():
    """C C^T is what a grid that is exact for degree six integrates."""
    grid, degrees = ProductGrid(8, 4), (2, 1, 3)
    matrices = [real_wigner_D(degree, grid.rotations) for degree in degrees]
    integral = np.einsum("r,rai,rbj,rck->abcijk", grid.weights, *matrices, optimize=True)
    tensor = coupling(*degrees)
    np.testing.assert_allclose(integral, np.multiply.outer(tensor, tensor), atol=1e-14)


def test_degrees_that_do_not_couple():
    with pytest.raises(ValueError, match="triangle"):
        coupling(1, 1, 3)


@pytest.mark.parametrize(("degree", "sign"), [(0, 1), (0, -1), (1, None), (1, 1), (1, -1), (2, None), (7, None)])
def test_how_many_components(degree, sign):
    signals = jax.ShapeDtypeStruct((2, 9, 4), np.float64)
    features = jax.eval_shape(lambda f: coupled_squares(f, degree, sign), signals)
    assert features.shape == (2 * degree + 1, coupled_count(degree, 3, 4, sign))
