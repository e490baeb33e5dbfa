"""Samples against refits: what is left out, eigenvalues, powers, parts; and what their resolvents say."""

import numpy as np
import pytest

from so3ntk import NotPositiveDefiniteError
from so3ntk.learning.curves.resolvents import Resolvents, mean_of
from so3ntk.learning.curves.samples import BlockSample, FeatureSample, KernelSample
from so3ntk.learning.feature_ridge import FeatureSpectrum
from so3ntk.learning.ridge import Spectrum
from tests.spectra.populations import power_law

N, RIDGE = 12, 0.3


def features(seed=0, width=20):
    return np.random.default_rng(seed).normal(size=(N, width)) / 3


def targets(outputs=2):
    return np.random.default_rng(1).normal(size=(N, outputs)) + 2


def of_kernel():
    f = features()
    return KernelSample(f @ f.T, targets()), f @ f.T, np.zeros((N, 0))


def with_intercept():
    f = features()
    return KernelSample(f @ f.T, targets(), intercept=True), f @ f.T, np.ones((N, 1))


def of_features():
    f, columns = features(width=7), np.stack([np.ones(N), np.arange(N) % 3], axis=1)
    return FeatureSample(f, columns, targets()), f @ f.T, columns


def of_decomposed_features():
    f, columns = features(width=7), np.stack([np.ones(N), np.arange(N) % 3], axis=1)
    return FeatureSample.of_spectrum(FeatureSpectrum.of(f.copy(), columns), targets()), f @ f.T, columns


def of_decomposed_kernel():
    f = features()
    return KernelSample.of_spectrum(Spectrum.of(f @ f.T, True), targets()), f @ f.T, np.ones((N, 1))


KINDS = (of_kernel, with_intercept, of_features, of_decomposed_features, of_decomposed_kernel)


def refit(kernel, columns, y, rows, row, ridge):
    """The residual at one row of a regression on others, with columns that have no penalty."""
    c = columns[rows]
    system = np.block([[kernel[np.ix_(rows, rows)] + ridge * np.eye(len(rows)), c], [c.T, np.zeros((c.shape[1],) * 2)]])
    solved = np.linalg.solve(system, np.concatenate([y[rows], np.zeros((c.shape[1], y.shape[1]))]))
    return y[row] - kernel[row, rows] @ solved[: len(rows)] - columns[row] @ solved[len(rows) :]


@pytest.mark.parametrize("kind", KINDS)
def test_left_out_by_refits(kind):
    sample, kernel, columns = kind()
    part = np.array([7, 2, 3, 11, 5, 0, 8, 9])
    for inside, found in ((np.arange(N), sample), (part, sample.part(part))):
        left = found.left_out(np.array([5.0, RIDGE]))[1]
        for place, row in enumerate(inside):
            rows = np.delete(inside, place)
            np.testing.assert_allclose(left[place], refit(kernel, columns, sample.y, rows, row, RIDGE), rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_and_powers(kind):
    """Those of the kernel on what the columns leave, whose power is what they leave of the targets."""
    sample, kernel, columns = kind()
    outside = np.eye(N) - columns @ np.linalg.pinv(columns)
    values = np.linalg.eigvalsh(outside @ kernel @ outside)[columns.shape[1] :]
    np.testing.assert_allclose(sample.eigenvalues, values, atol=1e-12)
    left = outside @ sample.y
    assert np.sum(sample.powers) == pytest.approx(np.mean(left**2))
    assert sample.eigenvalues @ sample.powers == pytest.approx(np.trace(left.T @ kernel @ left) / left.size)
    assert (sample.rows, len(sample)) == (N - columns.shape[1], N)


def test_blocks_by_refits():
    size, y = 3, targets(3)
    f = np.random.default_rng(0).normal(size=(N * size, 50)) / 5
    sample = BlockSample(f @ f.T, y)
    part = np.array([7, 2, 3, 11, 5])
    for inside, found in ((np.arange(N), sample), (part, sample.part(part))):
        left = found.left_out(np.array([5.0, RIDGE]))[1]
        for place, row in enumerate(inside):
            rows = (np.delete(inside, place)[:, None] * size + np.arange(size)).ravel()
            own = slice(row * size, (row + 1) * size)
            inner = np.linalg.solve(f[rows] @ f[rows].T + RIDGE * np.eye(len(rows)), y.ravel()[rows])
            np.testing.assert_allclose(left[place], y[row] - f[own] @ f[rows].T @ inner, rtol=1e-8)
    assert np.sum(sample.powers) == pytest.approx(np.mean(y**2))
    assert (sample.rows, sample.components) == (N * size, size)


def test_ridges_that_a_negative_eigenvalue_forbids():
    f = features(width=3)
    sample = KernelSample(f @ f.T - 0.01 * np.eye(N), targets())
    np.testing.assert_array_equal(sample.admits(np.array([0.0, 0.015, 0.021])), [False, False, True])
    with pytest.raises(NotPositiveDefiniteError, match="curve: K \\+ ridge I is not positive definite") as error:
        sample.require(0.0, "curve")
    sample.require(error.value.needed, "curve")


def test_resolvents_of_the_sample():
    """kappa's equation, D_2 as a derivative, and the errors of what is left out."""
    sample, kernel, _ = of_kernel()
    ridges = np.array([0.1, 0.1 * (1 + 1e-6), 2.0])
    found = Resolvents.of(sample, ridges)
    np.testing.assert_allclose(found.kappa, [1 / np.trace(np.linalg.inv(kernel + r * np.eye(N))) for r in ridges])
    np.testing.assert_allclose(found.dof + ridges / found.kappa, N)
    slope = np.diff(found.dof)[0] / np.diff(np.log(found.kappa))[0]
    assert found.dof2[0] - found.dof[0] == pytest.approx(slope, rel=1e-4)
    np.testing.assert_allclose(found.errors[2], np.mean(sample.left_out(ridges[2:]) ** 2))
    both = mean_of([found, Resolvents.of(sample, ridges[1:])])
    np.testing.assert_allclose(both.errors, found.errors[1:])


def test_resolvents_are_those_of_the_population():
    """D at the sample's kappa is the population's within five percent, and so is what is not learned there within twenty: 300 inputs."""
    known = power_law()
    f, y = known.draw(300, seed=0)
    found = Resolvents.of(KernelSample(f @ f.T, y[:, None]), np.array([0.03, 0.3, 3.0]))
    learned = known.eigenvalues / (known.eigenvalues + found.kappa[:, None])
    np.testing.assert_allclose(found.dof, learned.sum(axis=1), rtol=0.05)
    np.testing.assert_allclose(found.dof2, (learned**2).sum(axis=1), rtol=0.05)
    missed = (1 - learned) ** 2 @ known.coefficients**2 + known.noise**2
    np.testing.assert_allclose(found.missed, missed, rtol=0.2)
