"""The spectrum of a Gram matrix against its definition, closed forms on the sphere, gradient flow, and inputs that are none."""

import math

import numpy as np
import pytest
from scipy.special import eval_legendre, spherical_in

import so3ntk
from so3ntk import NotPositiveDefiniteError, PrecisionError
from so3ntk.spectra import feature_spectrum, spectrum
from so3ntk.spectra.decay import decay_exponent

N = 24


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(N, 40)) * np.arange(1.0, 41) ** -0.5


@pytest.fixture(scope="module")
def targets():
    return np.random.default_rng(1).normal(size=(N, 2)) + 1


@pytest.fixture(scope="module")
def kernel(features):
    return features @ features.T


@pytest.fixture(scope="module")
def found(kernel, targets):
    return spectrum(kernel, targets)


def test_eigenvalues_and_powers(kernel, targets, found):
    """K / n = U diag(lambda) U^T, v = U^T y / n^(1/2), the largest first, means over outputs."""
    values, vectors = np.linalg.eigh(kernel / N)
    np.testing.assert_allclose(found.eigenvalues, values[::-1], rtol=1e-10)
    powers = np.mean((vectors.T @ targets) ** 2, axis=1)[::-1] / N
    np.testing.assert_allclose(found.target_powers, powers, rtol=1e-8)
    np.testing.assert_allclose(found.cumulative_power, np.cumsum(powers) / np.mean(targets**2))
    assert (len(found), found.scale) == (N, pytest.approx(np.mean(np.diag(kernel))))


def test_numbers_of_the_whole(kernel, targets, found):
    inner = targets @ targets.T
    assert found.alignment == pytest.approx(np.sum(kernel * inner) / np.linalg.norm(kernel) / np.linalg.norm(inner))
    hat = kernel @ np.linalg.inv(kernel + 0.7 * np.eye(N))
    assert found.effective_dimension(0.7) == pytest.approx(np.trace(hat))
    assert found.condition_number == pytest.approx(np.linalg.cond(kernel))
    assert spectrum(inner, targets).alignment == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_learning_times_are_those_of_gradient_flow(kernel, targets, found, rate):
    """At its time each mode of the residual is down to 1 / e, for two outputs."""
    times, vectors = found.learning_times(rate), np.linalg.eigh(kernel)[1][:, ::-1]
    outputs = so3ntk.predict.gradient_flow(kernel, targets, kernel, times[[0, 5, -1]], rate)
    for mode, output in zip((0, 5, N - 1), outputs, strict=True):
        np.testing.assert_allclose(
            vectors[:, mode] @ (targets - output), vectors[:, mode] @ targets / math.e, rtol=1e-6
        )


def test_learning_times_of_one_output(kernel, targets):
    alone = spectrum(kernel, targets[:, 0]).learning_times()
    np.testing.assert_allclose(2 * alone, spectrum(kernel, targets).learning_times())


def test_features_are_their_kernel(features, kernel, targets):
    """By singular values; with fewer features than inputs the rest is zero, and outside of all features."""
    found = feature_spectrum(features, targets)
    np.testing.assert_allclose(found.eigenvalues, spectrum(kernel).eigenvalues, rtol=1e-8)
    few = feature_spectrum(features[:, :5], targets)
    np.testing.assert_array_equal(few.eigenvalues[5:], 0)
    basis = np.linalg.svd(features[:, :5], full_matrices=False)[0]
    assert few.target_powers[-1] == pytest.approx(np.mean((targets - basis @ (basis.T @ targets)) ** 2))
    assert (few.condition_number, few.learning_times()[-1]) == (math.inf, math.inf)


def test_digits_that_features_keep():
    """Singular values down to 1e-6 of the largest: squares of 1e-12, which the kernel in single precision has lost."""
    left = np.linalg.qr(np.random.default_rng(0).normal(size=(40, 4)))[0]
    f = left * np.array([1.0, 1e-2, 1e-4, 1e-6])
    np.testing.assert_allclose(feature_spectrum(f).eigenvalues[:4] * 40, [1, 1e-4, 1e-8, 1e-12], rtol=1e-6)
    kernel = spectrum((f @ f.T).astype(np.float32))
    assert "are zero to the rounding of float32" in kernel.statement


def test_blocks_are_one_matrix(targets):
    """A kernel of vectors: rows are components, an input's side by side."""
    f = np.random.default_rng(2).normal(size=(2 * N, 60))
    matrix = f @ f.T
    found = spectrum(matrix.reshape(N, 2, N, 2).swapaxes(1, 2), targets)
    one = spectrum(matrix, targets.ravel())
    np.testing.assert_allclose(found.eigenvalues, one.eigenvalues)
    np.testing.assert_allclose(found.target_powers, one.target_powers)
    np.testing.assert_allclose(found.learning_times(), one.learning_times())
    assert found.alignment == pytest.approx(one.alignment)


@pytest.mark.parametrize("function", [np.exp, lambda t: np.maximum(t, 0.0)], ids=["exponential", "rectified"])
def test_zonal_kernels_have_the_eigenvalues_of_funk_and_hecke(function):
    """lambda_l = 1/2 int k(t) P_l(t) dt, 2l + 1 times, on points drawn uniformly from the sphere."""
    x = np.random.default_rng(0).normal(size=(900, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    exact = np.array([np.sum(weights * function(nodes) * eval_legendre(degree, nodes)) / 2 for degree in range(4)])
    if function is np.exp:
        np.testing.assert_allclose(exact, spherical_in(np.arange(4), 1.0))
    found = spectrum(function(x @ x.T)).eigenvalues
    # Sums of y_m(x)^2 over n points scatter by about n^-1/2; means over the 2l + 1 of a degree do not scatter more.
    for degree in range(3):
        mean = np.mean(found[degree**2 : (degree + 1) ** 2])
        assert mean == pytest.approx(exact[degree], rel=3 / np.sqrt(900)), degree
    assert found[8] > 2 * found[9]


def test_exponents():
    """A power law, exactly; one that bends has a larger error; the rest of a spectrum, in rounding, is not looked at."""
    number = np.arange(1.0, 401)
    found = decay_exponent(3 * number**-1.7, 0.0)
    assert (found.value, found.error, found.last) == (pytest.approx(1.7), pytest.approx(0, abs=1e-10), 100)
    assert decay_exponent(np.exp(-number / 20), 0.0).error > 0.1
    cut = np.where(number < 50, number**-1.7, 1e-9)
    assert decay_exponent(cut, 1e-8).value == pytest.approx(1.7)
    assert math.isnan(decay_exponent(np.array([1.0, 0.5] + 20 * [0.0]), 1e-12).value)
    assert "no exponent" in str(decay_exponent(np.array([1.0, 0.5] + 20 * [0.0]), 1e-12))


def test_negative_eigenvalues_are_stated(kernel, targets):
    """Not clipped, and what asks for a regression says which ridge would do."""
    shifted = kernel - 0.02 * np.eye(N) * np.linalg.eigvalsh(kernel)[-1]
    found = spectrum(shifted, targets)
    values = np.linalg.eigvalsh(shifted) / N
    assert found.negative == np.count_nonzero(values < 0) > 0
    np.testing.assert_allclose(found.eigenvalues[-1], values[0])
    assert f"{found.negative} are negative beyond it" in str(found)
    assert math.isinf(found.condition_number)
    with pytest.raises(NotPositiveDefiniteError) as error:
        found.effective_dimension(0.0)
    needed = error.value.needed
    assert found.effective_dimension(needed) > 0
    assert found.learning_curve([50], needed).rmse[0] > 0
    with pytest.raises(NotPositiveDefiniteError, match=r"spectrum\.learning_curve: K"):
        found.learning_curve([50], needed / 10)


def test_stored_matrices(kernel, targets, tmp_path):
    """Anything that is read by slices; a memory map as one."""
    np.save(tmp_path / "k.npy", kernel)
    found = spectrum(np.load(tmp_path / "k.npy", mmap_mode="r"), targets)
    np.testing.assert_allclose(found.eigenvalues, spectrum(kernel).eigenvalues)


def test_what_it_says(found):
    """As text, with a line for each round number of modes, and as JSON would have it."""
    lines = str(found).splitlines()
    assert lines[0].startswith(f"{N} eigenvalues of K / n from ")
    assert [int(line.split()[0]) for line in lines[4:]] == [1, 2, 5, 10, 20, N]
    assert lines[-1].split()[2] == "100.00%"
    assert found.as_dict()["eigenvalues"] == found.eigenvalues.tolist()
    assert found.as_dict()["target_powers"] == found.target_powers.tolist()


def test_without_targets(kernel):
    found = spectrum(kernel)
    assert "target_powers" not in found.as_dict()
    for what in ("target_powers", "cumulative_power", "alignment"):
        with pytest.raises(ValueError, match=r"is of targets, and none were given: spectrum\(k, y\)"):
            getattr(found, what)
    with pytest.raises(ValueError, match="learning_curve is of targets"):
        found.learning_curve([10])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda k, y: (k[:9, :9], y[:9]), ValueError, "spectrum: expected at least 10 samples, got 9: .* Give more samples"),
        (lambda k, y: (k, np.ones(N)), ValueError, r"spectrum: the targets are constant \(1\)"),
        (lambda k, y: (k, y[:-1]), ValueError, r"expected a target for each of the 24 inputs, got y of shape \(23, 2\)"),
        (lambda k, y: (k, np.where(y > 1, y, np.nan)), ValueError, r"spectrum: expected finite targets, but y\[\d+, \d\] is nan"),
        (lambda k, y: (k[:, :12], y), ValueError, r"square kernel \(n, n\), got \(24, 12\).*feature_spectrum"),
        (lambda k, y: (np.triu(k), y), ValueError, r"spectrum: expected a symmetric kernel, but K\["),
        (lambda k, y: (np.where(k > 0, k, np.nan), y), PrecisionError, r"spectrum: the kernel holds NaN or infinity, first K\["),
        (lambda k, y: (k.reshape(N, N, 1, 1), y), ValueError, r"expected targets \(24, 1\), 1 components for each input"),
        (lambda k, y: (k.reshape(N, 12, 2, 1), y), ValueError, r"expected blocks \(n, n, M, M\)"),
    ],
)  # fmt: skip
def test_matrices_and_targets_that_are_none(kernel, targets, change, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        spectrum(*change(kernel, targets))


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (np.zeros(30), ValueError, r"feature_spectrum: expected features \(n, m\) of real numbers, got float64 of shape \(30,\)"),
        (np.zeros((5, 3)), ValueError, "expected at least 10 samples, got 5"),
        (np.diag([np.nan] + 20 * [1.0]), PrecisionError, "first feature 0 of input 0: nan"),
    ],
)  # fmt: skip
def test_features_that_are_none(features, error, message):
    with pytest.raises(error, match=message):
        feature_spectrum(features)


def test_rates_and_ridges_that_are_none(found):
    with pytest.raises(ValueError, match="expected learning_rate to be a finite number > 0, got 0"):
        found.learning_times(0)
    with pytest.raises(ValueError, match=r"spectrum\.effective_dimension: expected ridge"):
        found.effective_dimension(-1.0)
