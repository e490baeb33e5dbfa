"""Targets, kernels and tables with masks: what a mask hides is no number, and nothing is fitted to it."""

import re

import numpy as np
import pytest
from ase.build import molecule as g2

import so3ntk
from so3ntk import Dense, Flatten, KernelClassifier, KernelRegressor, Relu, serial
from so3ntk.learning.tensors import TensorKernelRegressor
from so3ntk.molecules import CompositionBaseline, EnergyForceRegressor, check_forces
from tests.molecules.springs import SETTINGS, small_network

X = np.random.default_rng(0).normal(size=(4, 3))
GRAM = X @ X.T + np.eye(4)
MASK = np.array([False, False, True, False])
Y = np.ma.array([0.5, -1.0, 1e20, 2.0], mask=MASK)
LABELS = np.ma.array([0, 1, 7, 0], mask=MASK)
VECTORS = np.ma.array(np.ones((4, 3)), mask=np.multiply.outer(MASK, np.eye(3)[1] > 0))
TABLE = np.ma.array(X, mask=np.multiply.outer(MASK, np.eye(3)[1] > 0))
BLOCKS = np.einsum("ij,ab->ijab", GRAM, np.eye(3))
ATOMS = [g2("H2O"), g2("H2"), g2("H2O"), g2("O2")]
FORCES = [np.zeros((len(a), 3)) for a in ATOMS]
MASKED_FORCES = [np.ma.array(f, mask=np.full(f.shape, i == 2)) for i, f in enumerate(FORCES)]
NET = serial(Flatten(), Dense(8), Relu(), Dense(1))


def potential():
    return EnergyForceRegressor(small_network(), environment=SETTINGS)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda: KernelRegressor().fit(X, Y), "(2,)"),
        (lambda: KernelRegressor().fit(TABLE, np.ones(4)), "(2, 1)"),
        (lambda: KernelRegressor(net="precomputed").fit(np.ma.array(GRAM, mask=GRAM > 2), np.ones(4)), ""),
        (lambda: KernelRegressor(solver="cg", ridge=0.1).fit(X, Y), "(2,)"),
        (lambda: KernelClassifier().fit(X, LABELS), "(2,)"),
        (lambda: KernelClassifier().fit(TABLE, [0, 1, 0, 1]), "(2, 1)"),
        (lambda: TensorKernelRegressor("precomputed").fit({1: np.zeros((4, 4, 3, 3))}, VECTORS), "(2, 1)"),
        (lambda: so3ntk.solvers.solve(GRAM, Y, 0.1), "(2,)"),
        (lambda: so3ntk.solvers.solve(np.ma.array(GRAM, mask=GRAM > 2), np.ones(4), 0.1), ""),
        (lambda: KernelRegressor(ridge=0.1).fit(X, np.ones(4), gram=np.ma.array(GRAM, mask=GRAM > 2)), ""),
        (lambda: KernelRegressor("precomputed", ridge=0.1).fit(GRAM, np.ones(4)).predict(GRAM, True, Y), "(2,)"),
        (
            lambda: TensorKernelRegressor("precomputed").fit({1: np.ma.array(BLOCKS, mask=True)}, np.ones((4, 3))),
            "(0, 0, 0, 0)",
        ),
        (
            lambda: (
                TensorKernelRegressor("precomputed", ridge=0.1)
                .fit({1: BLOCKS}, np.ones((4, 3)))
                .predict({1: BLOCKS}, True, {1: np.ma.array(np.ones((4, 3, 3)), mask=True)})
            ),
            "(0, 0, 0)",
        ),
        (lambda: so3ntk.predict.gradient_flow(GRAM, GRAM, Y, 1.0), "(2,)"),
        (lambda: so3ntk.predict.gradient_flow(np.ma.array(GRAM, mask=GRAM > 2), GRAM, [1, 2, 3, 4], 1.0), ""),
        (lambda: so3ntk.training.train(NET, X, Y, learning_rate=0.1, steps=1, key=0), "(2,)"),
        (lambda: so3ntk.training.train(NET, TABLE, np.ones(4), learning_rate=0.1, steps=1, key=0), "(2, 1)"),
        (lambda: so3ntk.empirical.monte_carlo(NET, TABLE, draws=2), "(2, 1)"),
        (lambda: so3ntk.augment_dataset(np.ones((4, 2, 2, 1)), Y, so3ntk.random_rotations(2)), "(2,)"),
        (lambda: CompositionBaseline().fit(ATOMS, Y), "(2,)"),
        (lambda: potential().fit(ATOMS, Y), "(2,)"),
        (lambda: potential().fit(ATOMS, np.ones(4), MASKED_FORCES), "(2, 0, 0)"),
        (lambda: check_forces(ATOMS, np.ones(4), np.ma.array(np.zeros((10, 3)), mask=True)), "(0, 0)"),
    ],
)
def test_masks_are_refused(call, place):
    with pytest.raises(ValueError, match=re.escape(f"masked at index {place}")) as error:
        call()
    assert "x.filled(value)" in str(error.value)


def test_without_masked_entries_they_are_plain_arrays():
    plain = KernelRegressor(ridge=0.1).fit(X, np.ones(4)).predict(X)
    np.testing.assert_array_equal(KernelRegressor(ridge=0.1).fit(np.ma.array(X), np.ma.ones(4)).predict(X), plain)


def test_tables_in_other_byte_orders_have_the_same_bits():
    for dtype in (np.float64, np.float32):
        native = X.astype(dtype)
        model = KernelRegressor(ridge=0.1).fit(native, np.ones(4))
        other = KernelRegressor(ridge=0.1).fit(native.astype(native.dtype.newbyteorder("S")), np.ones(4, ">f8"))
        np.testing.assert_array_equal(other.dual_coef_, model.dual_coef_)
        assert other.X_fit_.dtype == dtype


def test_hyperparameters_in_other_byte_orders():
    signals = so3ntk.SphereSignal(np.random.default_rng(1).normal(size=(2, 4, 2)), 2)
    kernels = [
        serial(
            so3ntk.Lift(variances=np.array([1.0, 0.5], order), channel_weights=np.array([1.0, 2.0], order)),
            so3ntk.GroupConv(variances=np.array([1.0, 0.25], order)), so3ntk.GroupPool(),
        ).kernel_fn(signals, None, "ntk")
        for order in ("<f8", ">f8")
    ]  # fmt: skip
    np.testing.assert_array_equal(*kernels)


def test_finite_networks_read_other_byte_orders():
    _, params = NET.init_fn(so3ntk.training.inputs.as_key(0), X.shape)
    for kernel in (so3ntk.empirical.nngp, so3ntk.empirical.ntk):
        np.testing.assert_array_equal(kernel(NET.apply_fn)(params, X.astype(">f8")), kernel(NET.apply_fn)(params, X))
