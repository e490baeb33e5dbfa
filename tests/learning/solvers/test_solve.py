"""so3ntk.solve against solutions that are known, by every method and from every kind of kernel."""

import logging
import pickle
import sys
import types

import jax
import numpy as np
import pytest

import so3ntk
from so3ntk import gram, solve
from so3ntk.errors import NotConvergedError, NotPositiveDefiniteError, PrecisionError
from so3ntk.learning.solvers import (
    BlockedCholesky,
    Cholesky,
    ConjugateGradients,
    Eigen,
    JaxMG,
    LazyGram,
    Nystrom,
    loo_path,
    pivoted_cholesky,
)
from so3ntk.matrices.kernel_matrix import Tiled
from tests.learning.solvers.problems import EPS, Slices, Tiles, ill_conditioned, kernel_with, smooth_kernel
from tests.regression_cases import MOLECULAR, bordered, molecules

DIRECT = [Cholesky(), Cholesky(device=jax.devices()[0]), Eigen(), BlockedCholesky(block=64)]


def needs(method):
    if isinstance(method, BlockedCholesky):
        pytest.importorskip("dask.array")
        pytest.importorskip("zarr")
    return method


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("method", [*DIRECT, ConjugateGradients(rank=150, tolerance=1e-13)], ids=repr)
def test_condition_1e12(method, intercept):
    kernel, ridge, alpha, b, y = ill_conditioned(intercept=intercept)
    solution = solve(kernel, y, ridge, needs(method), intercept=intercept)
    # Backward stable: predictions to rounding of sums of n terms, coefficients to the condition number times that
    sizes = np.linalg.norm(y, axis=0)
    predicted = kernel @ (solution.coefficients - alpha) + solution.intercept - b
    assert np.all(np.linalg.norm(predicted, axis=0) <= 200 * EPS * sizes)
    assert np.linalg.norm(solution.coefficients - alpha) <= 20 * EPS * 1e12 * np.linalg.norm(alpha)
    assert np.all(solution.residuals <= (1e-13 if isinstance(method, ConjugateGradients) else 200 * EPS))
    assert solution.converged


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("method", ["cholesky", "eigen", "blocked", "cg", "nystrom"])
def test_one_output_and_the_bordered_system(method, intercept):
    kernel, y, cross = smooth_kernel()
    if method == "blocked":
        needs(BlockedCholesky())
    solution = solve(kernel, y, 0.01, method, intercept=intercept)
    alpha, b = bordered(kernel, y, 0.01, intercept)
    assert solution.coefficients.shape == y.shape
    assert isinstance(solution.intercept, float)
    # of conjugate gradients the tolerance 1e-8 of the residual, over the ridge
    tolerance = 1e-6 if method == "cg" else 1e-10
    np.testing.assert_allclose(solution.predict(cross), cross @ alpha + b, rtol=0, atol=tolerance)
    if solution.support is not None:
        np.testing.assert_allclose(solution.predict(cross[:, solution.support]), solution.predict(cross))


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("method", [Cholesky(), Eigen(), Nystrom(rank=60), Nystrom(rank=9)], ids=repr)
def test_leave_one_out_is_a_refit_without_the_row(method, intercept):
    kernel, y, _ = smooth_kernel()
    solution = solve(kernel, y, 0.01, method, intercept=intercept, loo=True)
    if isinstance(method, Nystrom):  # the same landmarks for all rows
        rows = kernel[:, solution.support]
        kernel = rows @ np.linalg.solve(rows[solution.support], rows.T)
    for i in (0, 17, 59):
        rest = np.delete(np.arange(len(y)), i)
        alpha, b = bordered(kernel[np.ix_(rest, rest)], y[rest], 0.01, intercept)
        assert solution.loo[i] == pytest.approx(y[i] - kernel[i, rest] @ alpha - b, abs=1e-9)


def test_paths_of_leave_one_out_errors():
    kernel, y, _ = smooth_kernel()
    ridges = [1e-3, 1e-2, 1e-1]
    exact = loo_path(kernel, y, ridges, intercept=True)
    np.testing.assert_allclose(loo_path(kernel, y, ridges, "cholesky", intercept=True), exact, rtol=1e-9)
    np.testing.assert_allclose(loo_path(kernel, y, ridges, Nystrom(rank=60), intercept=True), exact, rtol=1e-7)
    shifted = kernel - 0.05 * np.eye(60)
    assert np.isnan(loo_path(shifted, y, ridges, "cholesky")).tolist() == [True, True, False]
    with pytest.raises(ValueError, match=r"cg .* no leave-one-out"):
        loo_path(kernel, y, ridges, "cg")


# ------------------------------------------------------------------------------------ low-rank kernels


def test_pivoted_cholesky_is_nystroms_kernel():
    kernel, _, _ = smooth_kernel(300)
    low_rank = pivoted_cholesky(kernel, 150, 2**20)
    factor, pivots = low_rank.factor, low_rank.pivots
    assert len(set(pivots.tolist())) == factor.shape[1] <= 150
    rows = kernel[:, pivots]
    np.testing.assert_allclose(
        factor @ factor.T, rows @ np.linalg.lstsq(rows[pivots], rows.T, rcond=1e-14)[0], atol=1e-9
    )
    np.testing.assert_array_equal(np.triu(factor[pivots], 1), 0)
    np.testing.assert_allclose(low_rank.left, 1 - np.sum(factor**2, axis=1), atol=1e-12)
    best = np.linalg.eigvalsh(kernel)[:-40].sum()  # chosen at random the landmarks still do nearly as well as any can
    assert pivoted_cholesky(kernel, 40, 2**20).left.sum() < 6 * best
    assert pivoted_cholesky(kernel_with(np.r_[1.0, 0.5, np.zeros(30)]), 20, 2**20).factor.shape[1] == 2


def test_what_nystrom_costs():
    kernel, y, cross = smooth_kernel(300, width=0.7)
    exact = solve(kernel, y, 0.01, intercept=True).predict(cross)
    errors = []
    for rank in (20, 60, 300):
        solution = solve(kernel, y, 0.01, Nystrom(rank=rank), intercept=True)
        cost, z = solution.approximation, solution.support
        left = kernel - kernel[:, z] @ np.linalg.lstsq(kernel[np.ix_(z, z)], kernel[z], rcond=1e-15)[0]
        assert cost.trace == pytest.approx(np.trace(left) / 300, rel=1e-3, abs=1e-10)
        others = np.setdiff1d(np.arange(300), z)
        if len(others) > 100:  # the columns measured are 32 of these
            error = np.linalg.norm(left[:, others]) / np.linalg.norm(kernel[:, others])
            assert 0.3 < cost.columns / error < 3
        assert cost.ranks[-1] == len(z)
        direct = np.sqrt(np.mean(np.square(solve(kernel, y, 0.01, Nystrom(rank=rank), intercept=True, loo=True).loo)))
        assert cost.loo_errors[-1] == pytest.approx(direct, rel=1e-12)
        errors.append(np.abs(solution.predict(cross) - exact).max())
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-7


def test_a_network_whose_gram_matrix_is_never_stored():
    x, y = molecules((1, 3, 2, 4, 3, 2, 5, 1, 3) * 3)
    lazy, whole = LazyGram(MOLECULAR, x), gram(MOLECULAR, x, progress=False)
    np.testing.assert_allclose(lazy[3:7, np.array([1, 0])], whole[3:7, [1, 0]], rtol=1e-12)
    # atoms with themselves sit on the cusp of the NTK, where a rounding of the angle shows as its root
    np.testing.assert_allclose(lazy.diagonal(), np.diag(whole), rtol=4 * np.finfo(np.float64).eps ** 0.5)
    a, b = (solve(kernel, y, 0.1, Nystrom(rank=8)) for kernel in (lazy, whole))
    np.testing.assert_allclose(a.coefficients, b.coefficients, rtol=1e-7)


# -------------------------------------------------------------------------------------- stored kernels


@pytest.mark.parametrize("method", ["cholesky", "eigen", "blocked", "cg", Nystrom(rank=30)], ids=str)
def test_kernels_that_are_read_by_slices(method, tmp_path):
    kernel, y, cross = smooth_kernel(150)
    expected = solve(kernel, y, 0.01, method if method != "blocked" else needs(BlockedCholesky()), intercept=True)
    np.save(tmp_path / "k.npy", kernel)
    stored = [np.load(tmp_path / "k.npy", mmap_mode="r"), Slices(kernel), Slices(kernel, chunk=32)]
    for kind in stored:
        solution = solve(kind, y, 0.01, method, "2MiB", intercept=True)
        np.testing.assert_allclose(solution.predict(cross), expected.predict(cross), rtol=0, atol=1e-7)
    # float32, as kernels are stored: products are in float64
    single = solve(Slices(kernel.astype(np.float32)), y, 0.01, method, intercept=True)
    np.testing.assert_allclose(single.predict(cross), expected.predict(cross), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("wrong_arguments")  # tiles in memory stand for a store
def test_tiles_of_a_store_are_read_whole_and_once_for_both_triangles():
    kernel, y, cross = smooth_kernel(150)
    tiles = Tiles(kernel, [0, 7, 50, 51, 90, 150])
    stored = Tiled(tiles)
    expected = solve(kernel, y, 0.01, intercept=True).predict(cross)
    for method in ("cg", Nystrom(rank=150), "cholesky"):
        np.testing.assert_allclose(solve(stored, y, 0.01, method, intercept=True).predict(cross), expected, atol=1e-6)
    assert [s.stop for s in stored.stripes(4 * 150 * 16 * 60)] == [51, 90, 150]
    assert [s.stop for s in stored.stripes(1)] == [7, 50, 51, 90, 150]
    ones = np.random.default_rng(0).normal(size=(150, 3))
    np.testing.assert_allclose(stored.multiply(ones, 2**20), kernel @ ones, rtol=1e-12)
    tiles.kernel = kernel.copy()
    tiles.kernel[80, 8] = np.nan
    with pytest.raises(PrecisionError, match=r"first K\[80, 8\] = nan"):
        stored.multiply(ones, 2**20)
    tiles.complete = False
    with pytest.raises(ValueError, match="not complete yet"):
        solve(stored, y, 0.01)


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    kernel, y, cross = smooth_kernel(150)
    stored = zarr.open_array(str(tmp_path / "k.zarr"), mode="w", shape=kernel.shape, chunks=(64, 64), dtype="f8")
    stored[:] = kernel
    expected = solve(kernel, y, 0.01).predict(cross)
    for method in ("cholesky", BlockedCholesky(scratch=tmp_path), "cg", Nystrom(rank=150)):
        np.testing.assert_allclose(solve(stored, y, 0.01, method).predict(cross), expected, rtol=0, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["k.zarr"]  # the factor is gone


def test_dask_workers_factorise(tmp_path):
    distributed = pytest.importorskip("distributed")
    zarr = pytest.importorskip("zarr")
    kernel, y, cross = smooth_kernel(150)
    stored = zarr.open_array(str(tmp_path / "k.zarr"), mode="w", shape=kernel.shape, chunks=(64, 64), dtype="f8")
    stored[:] = kernel
    with distributed.Client(n_workers=2, processes=False, dashboard_address=None) as client:
        solution = solve(stored, y, 0.01, BlockedCholesky(block=64, client=client, scratch=tmp_path))
    np.testing.assert_allclose(solution.predict(cross), solve(kernel, y, 0.01).predict(cross), atol=1e-10)


def test_a_budget_decides_the_method_and_is_kept(caplog):
    kernel, y, cross = smooth_kernel(400)
    stored = Slices(kernel)
    with caplog.at_level(logging.INFO, "so3ntk"):
        exact, iterated = solve(kernel, y, 0.01), solve(stored, y, 0.01, memory="1MB")
    assert isinstance(exact.method, Cholesky)
    assert isinstance(iterated.method, ConjugateGradients)
    assert stored.largest < 2.5e5  # a quarter of the budget, for a stripe and its copy
    assert "n = 400, k = 1, method Cholesky(device=None) (exact, and fits the memory), needs" in caplog.text
    assert "method ConjugateGradients(rank=" in caplog.text
    np.testing.assert_allclose(iterated.predict(cross), exact.predict(cross), rtol=0, atol=1e-6)
    with pytest.raises(MemoryError, match=r"cholesky needs 2 MiB .* n = 400, more than the budget of 1 MiB"):
        solve(kernel, y, 0.01, "cholesky", memory="1MiB")
    with pytest.raises(MemoryError, match="too little for n = 400"):
        solve(kernel, y, 0.01, memory="10kB")


# ---------------------------------------------------------------------------------- conjugate gradients


def test_convergence_is_reported_and_less_is_withheld():
    kernel, y, _ = smooth_kernel(300, width=0.5)
    solutions = [solve(kernel, y, 1e-2, ConjugateGradients(rank=rank)) for rank in (0, 60, 150)]
    steps = [len(solution.history) for solution in solutions]
    assert steps[0] > 3 * steps[1] > 20 * steps[2]  # the preconditioner pays
    assert all(solution.history[-1] <= 1e-8 < solution.history[0] for solution in solutions)
    short = ConjugateGradients(rank=10, max_steps=4)
    with pytest.raises(NotConvergedError, match=r"after 4 steps .* withheld. Raise rank") as caught:
        solve(kernel, y, 1e-4, short)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    accepted = solve(kernel, y, 1e-4, ConjugateGradients(rank=10, max_steps=4, accept_unconverged=True))
    assert not accepted.converged
    assert len(accepted.history) == 4
    np.testing.assert_array_equal(caught.value.solution.coefficients[:, 0], accepted.coefficients)
    rest = y - kernel @ accepted.coefficients - 1e-4 * accepted.coefficients
    assert accepted.residuals == pytest.approx(np.linalg.norm(rest) / np.linalg.norm(y), rel=1e-9)
    assert accepted.residuals > 1e-8


# --------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(
    "method", [Cholesky(), DIRECT[1], Eigen(), BlockedCholesky(block=16), ConjugateGradients()], ids=repr
)
def test_kernels_that_are_not_positive_definite(method, intercept):
    y = np.random.default_rng(0).normal(size=80)
    kernel = kernel_with(np.r_[np.linspace(0.5, 2, 79), -0.1])
    with pytest.raises(NotPositiveDefiniteError, match=r"not positive definite.*Raise ridge") as caught:
        solve(kernel, y, 0.05, needs(method), intercept=intercept)
    assert caught.value.needed > caught.value.ridge
    assert solve(kernel, y, 0.2, method, intercept=intercept).converged
    if isinstance(method, Cholesky | Eigen) and not intercept:
        assert caught.value.smallest == pytest.approx(-0.1)
    singular = kernel_with(np.r_[np.ones(79), 0.0])
    if not isinstance(method, ConjugateGradients | BlockedCholesky) and not intercept:
        with pytest.raises(NotPositiveDefiniteError):
            solve(singular, y, 0.0, method)


def test_bad_kernels_and_arguments():
    kernel, y, _ = smooth_kernel()
    broken = kernel.copy()
    broken[40, 3] = broken[3, 40] = np.nan
    for method in ("cholesky", "cg", "eigen"):
        with pytest.raises(PrecisionError, match=r"NaN or infinity, first K\[3, 40\]"):
            solve(broken, y, 0.1, method)
    big = np.eye(200)
    big[150, 20] = big[20, 150] = np.nan
    for method in ("cholesky", "cg", "nystrom"):
        with pytest.raises(PrecisionError, match=r"first K\[(20, 150|150, 20)\]"):
            solve(Slices(big), np.ones(200), 0.1, method, "2MiB")
    skew = kernel.copy()
    skew[0, 59] += 0.1
    for kind in (skew, Slices(skew)):
        with pytest.raises(ValueError, match="symmetric"):
            solve(kind, y, 0.1)
    for wrong, error, message in [
        ((kernel[:5], y, 0.1), ValueError, "square"),
        ((kernel, y[:5], 0.1), ValueError, r"y_train \(60,\)"),
        ((kernel, y, -1.0), ValueError, "ridge"),
        ((kernel, y, 0.1, "lu"), ValueError, "cholesky, eigen, blocked, cg, nystrom, jaxmg, or None, got 'lu'"),
        ((kernel, y, 0.1, Cholesky), TypeError, "expected a method's name or a solver"),
        ((kernel, y, 0.1, "cg", "lots"), ValueError, "memory"),
        ((kernel, y, 0.0, "nystrom"), ValueError, "ridge > 0"),
        ((so3ntk.Kernels(kernel, kernel), y, 0.1), TypeError, ".ntk or .nngp"),
    ]:
        with pytest.raises(error, match=message):
            solve(*wrong)
    with pytest.raises(ValueError, match="no leave-one-out"):
        solve(kernel, y, 0.1, "cg", loo=True)


def test_jaxmg_as_it_is_called(monkeypatch):
    """A double with the signature of jaxmg 1.1.1: what it is given is the padded matrix, sharded by rows."""
    kernel, y, cross = smooth_kernel(61)
    monkeypatch.setitem(sys.modules, "jaxmg", None)
    with pytest.raises(ImportError, match=r"pip install .*jaxmg\[cuda12\]"):
        solve(kernel, y, 0.01, "jaxmg")

    def potrs(a, b, T_A, mesh=None, matrix_specs=None, *, in_specs=None, return_status=False):
        assert a.sharding.mesh is mesh
        assert a.dtype == b.dtype == np.float64
        assert (T_A, tuple(matrix_specs)) == (32, ("pr", "pc"))
        return jax.numpy.linalg.solve(a, b)

    monkeypatch.setitem(sys.modules, "jaxmg", types.SimpleNamespace(potrs=potrs))
    solution = solve(Slices(kernel), y, 0.01, JaxMG(tile=32), intercept=True)
    expected = solve(kernel, y, 0.01, intercept=True)
    np.testing.assert_allclose(solution.predict(cross), expected.predict(cross), rtol=0, atol=1e-9)
