"""Noises of forces and energies that turn out too small for the whole covariance."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone

from so3ntk import Erf, NotPositiveDefiniteError, ProductGrid
from so3ntk.molecules import EnergyForceRegressor, force_network
from so3ntk.molecules.forces.noise import Targets, factorise
from tests.molecules.springs import SETTINGS, springs, waters

#: Ten energies and twenty components of forces.
TARGETS = Targets(np.zeros(30), np.arange(30) % 10, np.repeat([0, 1, 1], 10), np.zeros((10, 0)))


def indefinite(smallest=-1e-3):
    """A 30 x 30 matrix with one negative eigenvalue, the others between 0.1 and 100."""
    rng = np.random.default_rng(0)
    vectors, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    return (vectors * np.array([smallest, *np.geomspace(0.1, 100, 29)])) @ vectors.T


def test_noises_that_are_free_are_raised_beyond_the_border():
    gram = indefinite()
    factor, noises = factorise(gram, TARGETS, (2e-8, 5e-8), [True, True], "fit")
    assert 2e-3 < noises[1] < 8e-3  # the eigenvalue needs 1e-3 at most
    assert noises[0] == 0.4 * noises[1]
    np.testing.assert_allclose(factor @ factor.T, gram + np.diag([noises[0]] * 10 + [noises[1]] * 20), atol=1e-12)


def test_noises_that_suffice_stay():
    _, noises = factorise(indefinite(1e-3), TARGETS, (2e-8, 5e-8), [True, True], "fit")
    assert noises == (2e-8, 5e-8)


def test_how_many_structures_noises_are_chosen_on(monkeypatch):
    monkeypatch.setattr("so3ntk.molecules.forces.noise.ROWS", 10)
    assert [TARGETS.selected(most) for most in (2, 60)] == [2, 3]  # of three rows each
    assert Targets.of(np.zeros(31), np.array([10]), np.zeros((1, 0))).selected(60) == 1  # one at least


@pytest.mark.parametrize("free", [(False, False), (True, True)])
def test_refused_where_noises_are_given_or_none_suffices(free):
    gram = indefinite(-1e-3 if free == (False, False) else -1e4)
    with pytest.raises(
        NotPositiveDefiniteError, match="fit: K \\+ energy_noise, force_noise, stress_noise I is not positive definite"
    ):
        factorise(gram, TARGETS, (2e-8, 5e-8), free, "fit")


def test_a_fit_on_a_coarse_grid_says_that_it_raised_them():
    """Four points leave errors that two molecules do not show."""
    molecules = waters(8, seed=0)
    model = EnergyForceRegressor(
        force_network(Erf(), W_std=0.05, b_std=1.0, quadrature=ProductGrid(4)), environment=SETTINGS, selection=2
    )
    with pytest.warns(UserWarning, match="chosen on the first 2 molecules, the covariance of all 8 is not positive"):
        model.fit(molecules, *springs(molecules))
    assert np.isfinite(model.dual_coef_).all()
    with warnings.catch_warnings():  # what the warning says to do, at no more than it costs
        warnings.simplefilter("error")
        clone(model).set_params(selection=8).fit(molecules, *springs(molecules))
