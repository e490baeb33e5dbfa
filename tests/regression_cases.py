"""Problems, networks and batches that the tests of the estimators share."""

from typing import Any

import numpy as np
from sklearn.gaussian_process.kernels import RBF

import so3ntk
from so3ntk import Dense, Flatten, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial
from so3ntk.learning.regressor import KernelRegressor
from so3ntk.molecules import AtomSum, Environments

#: Checks of scikit-learn that hold at a given ridge (test_weights), not where left out rows choose it.
BY_LEFT_OUT_ROWS = {"check_sample_weight_equivalence_on_dense_data": "a copy that is left out is still in the data"}
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
