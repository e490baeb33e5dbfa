"""What a sample says of its population: how many modes there are at each kappa, in the limit of many rows; tables of kappa."""

import numpy as np
import pytest

from so3ntk.learning.curves.estimate import Estimate
from so3ntk.learning.curves.samples import KernelSample
from tests.spectra.populations import power_law


def estimate_of(kernel, y):
    return Estimate.of(KernelSample(kernel, y[:, None]), seed=0)


@pytest.fixture(scope="module")
def uneven():
    """Rows of unequal size, of which a sample finds too few modes: a kernel of 800."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 700)) * np.arange(1.0, 701) ** -0.6 * np.exp(0.5 * rng.normal(size=(800, 1)))
    return x @ x.T


def test_modes_in_the_limit_of_many_rows(uneven):
    """Of 128 rows a sixth of the modes is missing at kappa where the sample has 0.3 of them; halves tell more than a third of that."""
    ridges = np.geomspace(0.1, 1e4, 60)
    inverse = 1 / (np.linalg.eigvalsh(uneven)[:, None] + ridges)
    log_kappas, log_dofs = -np.log(inverse.sum(axis=0)), np.log(len(uneven) - ridges * inverse.sum(axis=0))
    left = []
    for start in (0, 128):
        rows = slice(start, start + 128)
        found = estimate_of(uneven[rows, rows], np.random.default_rng(1).normal(size=128))
        place = int(np.argmin(np.abs(found.whole.dof - 0.3 * 128)))
        log_kappa = np.log(found.whole.kappa[place])
        true = np.interp(log_kappa, log_kappas, log_dofs)
        extrapolated = np.interp(log_kappa, found.population.grid, found.population.log_dof)
        left.append((np.log(found.whole.dof[place]) - true, extrapolated - true))
    own, limit = np.mean(left, axis=0)
    assert own < -0.15
    assert 0.6 * own < limit < 0.05


def test_kappa_of_the_table_solves_its_equation():
    """D + ridge / kappa = N, at ridges of any size, with one component an input and with three."""
    features, y = power_law().draw(100, seed=0)
    found = estimate_of(features @ features.T, y).population
    ridges = np.array([1e-9, 1e-3, 0.1, 3.0, 100.0])
    for inputs in (20.0, 90.0, 400.0):
        errors = found.errors(inputs, ridges)
        dof = np.exp(np.interp(errors.log_kappa, found.grid, found.log_dof))
        np.testing.assert_allclose(dof + ridges * np.exp(-errors.log_kappa), inputs, rtol=2e-3)
        np.testing.assert_allclose(errors.share, dof / inputs, rtol=1e-9)


def test_errors_of_the_parts_are_met():
    """At the sizes and ridges of whole, halves, quarters: leave-one-out errors, on average over the parts of a size."""
    features, y = power_law().draw(128, seed=0)
    found = estimate_of(features @ features.T, y)
    for level in found.levels:
        predicted = found.errors(level.inputs - 1.0, level.ridges)
        np.testing.assert_allclose(predicted.mse, level.errors, rtol=1e-6)


def test_the_band_without_halves():
    """Of a sample too small to be halved: as wide as all that is predicted to be gained."""
    features, y = power_law(60).draw(14, seed=0)
    sample = KernelSample(features @ features.T, y[:, None])
    found = Estimate.of(sample, seed=0)
    few = Estimate(found.whole, found.population, (), found.levels)
    gained = np.log(few.errors(14.0, np.array([0.1])).mse[0] / few.errors(200.0, np.array([0.1])).mse[0]) / 2
    assert few.deviation(200.0, 0.1) > gained
    assert few.deviation(14.0, 0.1) < few.deviation(200.0, 0.1)
