"""KernelRegressor against refits, scikit-learn's own regressors and its conformance checks."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import so3ntk
from so3ntk import Dense, Flatten, GroupPool, Lift, ProductGrid, Relu, SphereSignal, gram, serial
from so3ntk.diagonal import kernel_diagonal
from so3ntk.errors import NotPositiveDefiniteError, PrecisionError, RidgePathWarning
from so3ntk.estimators import RELATIVE_RIDGES, KernelRegressor, default_network
from so3ntk.molecules import AtomSum, Environments

EPS = np.finfo(np.float64).eps
MLP = serial(Flatten(), Dense(b_std=0.5), Relu(), Dense())
#: One refined and one base grid: pairs aligned beyond the threshold are computed on the finer one.
GRID = so3ntk.AdaptiveGrid(ProductGrid(8), ProductGrid(12), 0.8)
INVARIANT = serial(Lift(), Relu(), GroupPool(), Dense(b_std=0.3), quadrature=GRID, rtol=0.5)
MOLECULAR = serial(Flatten(), Dense(), Relu(), Dense(), AtomSum(match_species=True), Dense(W_std=2.0))


def problem(n=14, outputs=None, seed=0):
    """A positive definite kernel, targets that are no function of it, and cross kernels of 5 test points."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + 5, 3))
    correlation: Any = RBF(1.3)(x)
    kernel = correlation + 0.7
    y: Any = x[:n, 0] + 3 + 0.5 * rng.normal(size=n)
    if outputs is not None:
        y = np.stack([y * (k + 1) + rng.normal(size=n) for k in range(outputs)], axis=1)
    return kernel[:n, :n], y, kernel[n:, :n], np.diag(kernel)[n:]


def signals(n=12, bandlimit=2, seed=0):
    rng = np.random.default_rng(seed)
    x = SphereSignal(rng.normal(size=(n, bandlimit**2, 1)), bandlimit)
    return x, np.array(x.norm()) + 0.1 * rng.normal(size=n)


def molecules(sizes=(1, 3, 2, 4, 3, 2, 5, 1, 3), seed=0):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = SphereSignal(rng.normal(size=(len(owner), 4, 1)), 2)
    numbers = rng.choice([1, 6, 8], len(owner))
    return Environments(x, owner, numbers), np.array(sizes) + 0.1 * rng.normal(size=len(sizes))


def variant(model, **changes):
    return KernelRegressor(**(model.get_params() | changes))


def bordered(kernel, y, ridge, intercept):
    """(alpha, b) from the linear system as it is written."""
    n = len(kernel)
    matrix = kernel + ridge * np.eye(n)
    if not intercept:
        return np.linalg.solve(matrix, y), np.zeros(y.shape[1:])
    matrix = np.block([[matrix, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    solution = np.linalg.solve(matrix, np.concatenate([y, np.zeros_like(y[:1])]))
    return solution[:n], solution[n]


# ---------------------------------------------------------------------------- scikit-learn's checks


@pytest.mark.filterwarnings("ignore::so3ntk.errors.RidgePathWarning")
@parametrize_with_checks([KernelRegressor(net="precomputed"), KernelRegressor()])
def test_scikit_learn(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 3.0])
@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("intercept", [True, False])
def test_solution_and_leave_one_out_are_those_of_refits(intercept, outputs, ridge):
    kernel, y, cross, _ = problem(outputs=outputs)
    model = KernelRegressor(net="precomputed", ridge=ridge, fit_intercept=intercept).fit(kernel, y)
    # Both solvers lose the condition number of K + ridge I, below 1e2 / ridge.
    tolerance = 1e3 * EPS * (1 + 1e2 / ridge) * np.abs(y).max()
    alpha, b = bordered(kernel, y, ridge, intercept)
    np.testing.assert_allclose(model.dual_coef_, alpha, rtol=0, atol=tolerance * (1 + 1 / ridge))
    np.testing.assert_allclose(model.intercept_, b, rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.predict(cross), cross @ alpha + b, rtol=0, atol=tolerance)
    assert model.predict(cross).shape == (5, *y.shape[1:])
    residuals = []
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        alpha, b = bordered(kernel[np.ix_(rest, rest)], y[rest], ridge, intercept)
        residuals.append(y[i] - kernel[i, rest] @ alpha - b)
    expected = np.sqrt(np.mean(np.square(residuals)))
    np.testing.assert_allclose(model.loo_error_, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_path_is_that_of_single_ridges_and_its_minimum_is_chosen(intercept):
    kernel, y, _, _ = problem(outputs=2)
    path = np.logspace(-3, 1, 9)
    model = KernelRegressor(net="precomputed", ridge_path=path[::-1], fit_intercept=intercept).fit(kernel, y)
    singles = [variant(model, ridge=ridge, ridge_path=None).fit(kernel, y).loo_error_ for ridge in path]
    np.testing.assert_array_equal(model.ridge_path_, path)
    np.testing.assert_allclose(model.loo_path_, singles, rtol=1e3 * EPS)
    assert model.ridge_ == path[np.argmin(singles)]
    assert model.loo_error_ == min(model.loo_path_)
    single = variant(model, ridge=model.ridge_).fit(kernel, y)
    np.testing.assert_array_equal(model.dual_coef_, single.dual_coef_)


def test_default_path_scales_with_the_kernel():
    kernel, y, _, _ = problem()
    model = KernelRegressor(net="precomputed").fit(1e6 * kernel, y)
    np.testing.assert_allclose(model.ridge_path_, RELATIVE_RIDGES * 1.7e6, rtol=10 * EPS)
    small = KernelRegressor(net="precomputed").fit(kernel, y)
    assert model.ridge_ == pytest.approx(1e6 * small.ridge_, rel=1e-12)
    assert model.loo_error_ == pytest.approx(small.loo_error_, rel=1e-9)


def test_kernel_ridge_of_scikit_learn():
    kernel, y, cross, _ = problem(outputs=2)
    alpha: Any = 0.1
    expected = KernelRidge(alpha=alpha, kernel="precomputed").fit(kernel, y)
    model = KernelRegressor(net="precomputed", ridge=0.1, fit_intercept=False).fit(kernel, y)
    np.testing.assert_allclose(model.dual_coef_, expected.dual_coef_, rtol=0, atol=1e5 * EPS)
    np.testing.assert_allclose(model.predict(cross), expected.predict(cross), rtol=0, atol=1e5 * EPS)
    assert model.score(cross, np.ones((5, 2))) == r2_score(np.ones((5, 2)), model.predict(cross))


def test_an_intercept_absorbs_constants():
    kernel, y, cross, _ = problem()
    model = KernelRegressor(net="precomputed", ridge=1e-3)
    expected = variant(model).fit(kernel, y).predict(cross)
    # K - 5 is indefinite, but only along the constant vector.
    shifted = variant(model).fit(kernel - 5, y)
    np.testing.assert_allclose(shifted.predict(cross - 5), expected, rtol=0, atol=1e-10)
    with pytest.raises(NotPositiveDefiniteError):
        variant(model, fit_intercept=False).fit(kernel - 5, y)
    # Targets that are constant leave nothing for the kernel, not even rounding over a tiny ridge.
    flat = variant(model, ridge=1e-9).fit(kernel, np.full(len(y), 1e9))
    assert flat.amplitude_ == flat.loo_error_ == np.abs(flat.dual_coef_).max() == 0
    np.testing.assert_array_equal(flat.predict(cross), 1e9)


# ---------------------------------------------------------------------------------- the posterior


def gaussian_process(x, y, ridge, amplitude, constant=0.0):
    kernel = ConstantKernel(amplitude**2) * (RBF(1.3) + ConstantKernel(0.7 + constant))
    options: Any = {"alpha": amplitude**2 * ridge, "optimizer": None}
    return GaussianProcessRegressor(kernel, **options).fit(x, y)


def test_std_is_that_of_a_gaussian_process_at_its_likeliest_amplitude():
    x = np.random.default_rng(0).normal(size=(19, 3))
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=0.05, fit_intercept=False).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    reference = gaussian_process(x[:14], y, 0.05, model.amplitude_)
    expected = reference.predict(x[14:], return_std=True)
    np.testing.assert_allclose(mean, expected[0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(std, expected[1], rtol=0, atol=1e-11)
    likelihood: Any = reference.log_marginal_likelihood_value_
    for factor in (0.98, 1.02):
        other: Any = gaussian_process(x[:14], y, 0.05, factor * model.amplitude_)
        assert other.log_marginal_likelihood_value_ < likelihood


def test_std_with_an_intercept_is_the_limit_of_a_wide_prior_on_it():
    x = np.random.default_rng(0).normal(size=(19, 3))
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=0.05).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    reference = gaussian_process(x[:14], y, 0.05, model.amplitude_, constant=1e6)
    expected = reference.predict(x[14:], return_std=True)
    # What is left of the prior's width is 1e-6; Cholesky at a condition number of 1e9 leaves less.
    np.testing.assert_allclose(mean, expected[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(std, expected[1], rtol=1e-5)
    plain = variant(model, fit_intercept=False).fit(kernel, y)
    ratio = plain.predict(cross, True, diagonal)[1] / plain.amplitude_
    assert np.all(std / model.amplitude_ > ratio)


def test_std_of_several_outputs_differs_by_amplitude_alone():
    kernel, y, cross, diagonal = problem(outputs=3)
    model = KernelRegressor(net="precomputed", ridge=0.1).fit(kernel, y)
    mean, std = model.predict(cross, return_std=True, diagonal=diagonal)
    assert mean.shape == std.shape == (5, 3)
    for k in range(3):
        one = variant(model).fit(kernel, y[:, k])
        np.testing.assert_allclose(one.predict(cross, True, diagonal)[1], std[:, k], rtol=1e-10)
        assert isinstance(one.intercept_, float)
        assert one.amplitude_ == pytest.approx(model.amplitude_[k], rel=1e-10)


def test_negative_variances_are_reported():
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=1e-8).fit(kernel, y)
    with pytest.warns(RuntimeWarning, match=r"set to zero.*calibrate"):
        _, std = model.predict(cross, return_std=True, diagonal=diagonal - 1)
    assert np.all(std >= 0)
    assert np.any(std == 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, std = model.predict(kernel, return_std=True, diagonal=np.diag(kernel))
    assert np.all(std <= 2e-4 * model.amplitude_)  # sqrt(ridge) at the training points, at most


# ------------------------------------------------------------------------- positive definiteness


@pytest.mark.parametrize("intercept", [True, False])
def test_not_positive_definite_says_what_to_change(intercept):
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(np.column_stack([np.ones(8), rng.normal(size=(8, 7))]))[0]
    kernel = vectors @ np.diag([1, -1e-3, 0.1, 0.2, 0.3, 0.4, 0.5, 2]) @ vectors.T
    y = rng.normal(size=8)
    model = KernelRegressor(net="precomputed", ridge=1e-4, fit_intercept=intercept)
    with pytest.raises(
        NotPositiveDefiniteError,
        match=r"-1\.000e-03 to 2\.000e\+00, and ridge is 1\.000e-04.*calibrate.*rtol",
    ) as caught:
        model.fit(kernel, y)
    error = caught.value
    assert (error.smallest, error.largest, error.ridge) == pytest.approx((-1e-3, 2, 1e-4))
    assert f"at least {error.needed:.1e}" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # joblib sends errors between processes
    variant(model, ridge=float(f"{error.needed:.1e}")).fit(kernel, y)
    # Candidates that are too small are skipped, also those barely above the negative eigenvalue.
    path = [1e-4, 1.001e-3, 3e-3, 1e-2, 1.0]
    skipped = variant(model, ridge=None, ridge_path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RidgePathWarning)
        skipped.fit(kernel, y)
    assert np.isnan(skipped.loo_path_).tolist() == [True, True, False, False, False]
    with pytest.raises(NotPositiveDefiniteError, match=r"ridge is 1\.000e-04"):
        skipped.set_params(ridge_path=[1e-5, 1e-4]).fit(kernel, y)


def test_singular_kernels_need_a_ridge():
    y = np.arange(4.0)
    with pytest.raises(NotPositiveDefiniteError, match=r"at least"):
        KernelRegressor(net="precomputed", ridge=0.0, fit_intercept=False).fit(np.ones((4, 4)), y)
    with pytest.raises(NotPositiveDefiniteError):
        KernelRegressor(net="precomputed", ridge=0.0).fit(np.zeros((4, 4)), y)
    model = KernelRegressor(net="precomputed", ridge=0.0).fit(np.eye(4), y)
    np.testing.assert_allclose(model.predict(np.eye(4)), y, atol=1e-14)
    constant = KernelRegressor(net="precomputed").fit(np.zeros((4, 4)), y)
    np.testing.assert_allclose(constant.predict(np.zeros((2, 4))), [1.5, 1.5])


def test_ends_of_the_path_are_reported_once():
    kernel, y, _, _ = problem()
    noise = np.random.default_rng(5).normal(size=len(y))
    smooth = kernel @ np.random.default_rng(6).normal(size=len(y))
    model = KernelRegressor(net="precomputed")
    for targets, path, message in [
        (smooth, [1e-2, 1e-1, 1], "smallest of the path.*smaller values"),
        (noise, [1e-4, 1e-3], "largest of the path.*larger values"),
    ]:
        with pytest.warns(RidgePathWarning, match=message) as caught:
            variant(model, ridge_path=path).fit(kernel, targets)
        assert len(caught) == 1
        assert caught[0].filename == __file__
    indefinite = kernel - 2e-2 * np.eye(len(kernel))
    with pytest.warns(RidgePathWarning, match="positive definite.*calibrate"):
        variant(model, ridge_path=[1e-9, 1e-1, 1]).fit(indefinite, smooth)
    with warnings.catch_warnings():  # inside the path, a single candidate, or nothing to choose between
        warnings.simplefilter("error")
        variant(model, ridge_path=[1e-9, 1e-2, 1e4]).fit(kernel, y)
        variant(model, ridge_path=[1e-2]).fit(kernel, smooth)
        variant(model).fit(kernel, np.full(len(y), 3.0))


# -------------------------------------------------------------------------------------- bad input


def test_kernels_that_are_no_kernels():
    kernel, y, cross, diagonal = problem()
    model = KernelRegressor(net="precomputed", ridge=0.1)
    with pytest.raises(ValueError, match=r"square kernel \(n, n\).*\(14, 9\).*net=None"):
        model.fit(kernel[:, :9], y)
    for value in (np.nan, np.inf):
        broken = kernel.copy()
        broken[3, 5] = value
        with pytest.raises(ValueError, match=r"NaN or infinity, first K\[3, 5\] = (nan|inf)"):
            model.fit(broken, y)
    broken = kernel.copy()
    broken[2, 7] += 1e-3
    with pytest.raises(ValueError, match=r"symmetric kernel, but K\[2, 7\] = .* and K\[7, 2\]"):
        model.fit(broken, y)
    rounded = kernel.astype(np.float32) + np.float32(1e-7) * np.triu(np.ones_like(kernel))
    model.fit(rounded, y)
    model.fit(kernel, y)
    with pytest.raises(ValueError, match="14 features"):
        model.predict(cross[:, :9])
    with pytest.raises(ValueError, match=r"first K\[0, 0\] = nan"):
        model.predict(cross * np.nan)
    with pytest.raises(ValueError, match=r"needs diagonal=.*kernel_diagonal"):
        model.predict(cross, return_std=True)
    for wrong in (diagonal[:3], diagonal * np.nan, 1.7):
        with pytest.raises(ValueError, match="expected diagonal to be 5 finite numbers"):
            model.predict(cross, return_std=True, diagonal=wrong)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"net": "mlp"}, TypeError, "None, a Network .* or \"precomputed\", got 'mlp'"),
        ({"net": MLP.kernel_fn}, TypeError, "expected net"),
        ({"net": Relu()}, TypeError, "expected net"),
        ({"net": serial(Relu(), Dense())}, ValueError, "no first layer"),
        ({"kernel": "NTK"}, ValueError, '"ntk" or "nngp", got \'NTK\''),
        ({"ridge": -1e-3}, ValueError, "ridge .* >= 0, got -0.001"),
        ({"ridge": np.nan}, ValueError, "ridge"),
        ({"ridge": np.inf}, ValueError, "ridge"),
        ({"ridge": True}, ValueError, "ridge"),
        ({"ridge": "auto"}, ValueError, "ridge"),
        ({"ridge_path": []}, ValueError, "ridge_path"),
        ({"ridge_path": [1.0, -1.0]}, ValueError, "ridge_path"),
        ({"ridge_path": 1.0}, ValueError, "ridge_path"),
        ({"memory": "lots"}, ValueError, "memory"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    x = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(error, match=message):
        KernelRegressor(**parameters).fit(x, x[:, 0])


def test_wrong_data():
    x, y = signals(6)
    model = KernelRegressor(net=MLP, ridge=0.1)
    with pytest.raises(NotFittedError):
        model.predict(x)
    for wrong, message in [
        (y[:5], r"each of the 6 inputs, got y of shape \(5,\)"),
        (np.where(y == y[0], np.nan, y), "Input y contains NaN"),
        (None, "requires y"),
        (np.ones((6, 2, 2)), "dim"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(x, wrong)
    with pytest.raises(ValueError, match="at least one training input"):
        model.fit(x[:0], y[:0])
    with pytest.raises(TypeError, match=r"a batch of inputs.*got int"):
        model.fit(3, y)
    model.fit(x, y)
    with pytest.raises(ValueError, match="bandlimit"):
        model.predict(signals(3, bandlimit=3)[0])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(SphereSignal(x.coefficients.at[2].set(np.nan), 2), y)
    with pytest.raises(PrecisionError, match=r"first K\[0, 0\].*rescale"):
        KernelRegressor(net=MLP).fit(np.full((3, 2), 1e200), np.arange(3.0))


# --------------------------------------------------------------------------- networks and their inputs


@pytest.mark.parametrize("intercept", [True, False])
def test_one_row(intercept):
    x, _ = signals(4)
    for ridge in (None, 0.5):
        model = KernelRegressor(net=MLP, ridge=ridge, fit_intercept=intercept).fit(x[0], np.array([2.0]))
        mean, std = model.predict(x, return_std=True)
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        assert np.isnan(model.loo_error_) == intercept
        if intercept:
            np.testing.assert_allclose(mean, 2)


def test_no_rows():
    x, y = signals(5)
    for targets in (y, np.stack([y, y], 1)):
        model = KernelRegressor(net=MLP, ridge=0.1).fit(x, targets)
        mean, std = model.predict(x[:0], return_std=True)
        assert mean.shape == std.shape == (0, *targets.shape[1:])


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize(("net", "data"), [(MLP, signals), (MOLECULAR, molecules)], ids=["sphere", "molecules"])
def test_networks_are_their_precomputed_kernels(net, data, kernel):
    x, y = data()
    train, test = np.arange(0, 6), np.arange(6, 9)
    model = KernelRegressor(net=net, kernel=kernel, ridge=0.05).fit(x[train], y[train])
    matrix = gram(net, x, get=kernel, progress=False)
    other = KernelRegressor(net="precomputed", ridge=0.05).fit(matrix[np.ix_(train, train)], y[train])
    expected = other.predict(matrix[np.ix_(test, train)], True, np.diag(matrix)[test])
    # Entries of a matrix and of its blocks differ by rounding where a kinked NTK is steep: by sqrt(eps).
    np.testing.assert_allclose(model.predict(x[test], return_std=True), expected, rtol=1e-6)
    assert model.dual_coef_.dtype == np.float64


@pytest.mark.parametrize(
    ("net", "x", "get"),
    [
        (MLP, signals()[0], "ntk"),
        (MLP, signals()[0], "nngp"),
        (INVARIANT, signals(8)[0], "ntk"),
        (MOLECULAR, molecules()[0], "ntk"),
        (MOLECULAR, molecules()[0], "nngp"),
    ],
)
def test_diagonal_is_that_of_the_gram_matrix(net, x, get):
    diagonal = kernel_diagonal(net, x, get)
    expected = np.diag(gram(net, x, get=get, progress=False))
    np.testing.assert_allclose(diagonal, expected, rtol=1e3 * EPS)
    assert diagonal.dtype == expected.dtype
    assert kernel_diagonal(net, x[:0], get).shape == (0,)


def test_diagonal_of_many_and_of_wrong_arguments():
    x, _ = signals(130)  # more than one chunk
    expected = np.concatenate([np.diag(gram(MLP, x[i : i + 13], progress=False)) for i in range(0, 130, 13)])
    np.testing.assert_allclose(kernel_diagonal(MLP, x), expected, rtol=1e3 * EPS)
    wrong: list[Any] = ["ntks", ("ntk", "nngp")]
    for get in wrong:
        with pytest.raises(ValueError, match=r"get: expected|kernel_diagonal: expected get"):
            kernel_diagonal(MLP, x, get)


def test_single_precision_signals_are_solved_in_double():
    x, y = signals()
    single = SphereSignal(x.coefficients.astype(np.float32), 2)
    model = KernelRegressor(net=MLP, ridge=0.1).fit(single, y.astype(np.float32))
    assert model.dual_coef_.dtype == np.float64
    mean, std = model.predict(single, return_std=True)
    expected = KernelRegressor(net=MLP, ridge=0.1).fit(x, y).predict(x, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-4)
    np.testing.assert_allclose(std, expected[1], atol=1e-3)


def test_predictions_of_an_invariant_network_are_invariant():
    x, y = signals(8)
    turned = so3ntk.rotate(x, so3ntk.random_rotations(len(x), seed=1))
    changes = {}
    for net in (INVARIANT, MLP):
        model = KernelRegressor(net=net, ridge=0.1).fit(x, y)
        changes[net] = np.abs(model.predict(turned) - model.predict(x)).max()
    assert changes[INVARIANT] < 1e-3 < 0.1 < changes[MLP]  # GRID leaves 1e-5


@pytest.mark.parametrize(("net", "data"), [(MLP, signals), (MOLECULAR, molecules)], ids=["sphere", "molecules"])
def test_cross_validation(net, data):
    x, y = data()
    folds = KFold(3, shuffle=True, random_state=0)
    by_hand = []
    for train, test in folds.split(x):
        model = KernelRegressor(net=net, ridge=0.05).fit(x[train], y[train])
        by_hand.append(r2_score(y[test], model.predict(x[test])))
    scores = cross_val_score(KernelRegressor(net=net, ridge=0.05), x, y, cv=folds)
    np.testing.assert_allclose(scores, by_hand, rtol=1e-9)
    matrix = gram(net, x, progress=False)
    sliced = cross_val_score(KernelRegressor(net="precomputed", ridge=0.05), matrix, y, cv=folds)
    np.testing.assert_allclose(sliced, by_hand, rtol=1e-5)
    grid = {"ridge": [1e-3, 0.05, 10.0]}
    search = GridSearchCV(KernelRegressor(net=net), grid, cv=folds).fit(x, y)
    quick = GridSearchCV(KernelRegressor(net="precomputed"), grid, cv=folds).fit(matrix, y)
    assert search.best_params_ == quick.best_params_
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][1], np.mean(by_hand), rtol=1e-9)
    np.testing.assert_allclose(search.predict(x[1:4]), quick.predict(matrix[1:4]), rtol=1e-5)


def test_leave_one_out_is_scikit_learns():
    x, y = signals()
    model = KernelRegressor(net=MLP, ridge=0.05).fit(x, y)
    predicted = cross_val_predict(KernelRegressor(net=MLP, ridge=0.05), x, y, cv=len(y))
    assert model.loo_error_ == pytest.approx(np.sqrt(np.mean((predicted - y) ** 2)), rel=1e-6)


def test_networks_as_hyperparameters():
    x, y = signals()
    other = serial(Flatten(), Dense(b_std=0.1), Relu(), Dense())
    grid = {"net": [MLP, other], "kernel": ["ntk", "nngp"]}
    search = GridSearchCV(KernelRegressor(ridge=0.05), grid, cv=3).fit(x, y)
    assert search.best_params_["net"] in (MLP, other)
    scores = search.cv_results_["mean_test_score"]
    assert len(np.unique(scores.round(9))) == 4


def test_default_network_in_a_pipeline():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)) * [1, 10, 100] + [5, 0, -7]
    y = np.sin(x[:, 0]) + x[:, 1] / 10
    model = make_pipeline(StandardScaler(), KernelRegressor()).fit(x[:30], y[:30])
    assert model.score(x[30:], y[30:]) > 0.8
    regressor: Any = model[-1]
    assert regressor.n_features_in_ == 3
    named: Any = KernelRegressor(net=default_network(), ridge=regressor.ridge_)
    scaled = model[0].transform(x)
    named.fit(scaled[:30], y[:30])
    np.testing.assert_allclose(named.predict(scaled[30:]), model.predict(x[30:]), rtol=1e-9)
    assert named.n_features_in_ == 3
    with pytest.raises(ValueError, match="2 features"):
        named.predict(x[:, :2])


def test_copies_and_text():
    x, y = signals()
    model = KernelRegressor(net=MLP, kernel="nngp", ridge=0.1).fit(x, y)
    expected = model.predict(x, return_std=True)
    cloned: Any = clone(model)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x, return_std=True), expected)
    np.testing.assert_array_equal(cloned.fit(x, y).predict(x, return_std=True), expected)
    assert "kernel='nngp'" in repr(model)
    assert repr(KernelRegressor()) == "KernelRegressor()"
