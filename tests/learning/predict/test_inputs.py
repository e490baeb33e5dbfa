"""What predictions refuse, and how."""

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import predict
from so3ntk.engine.network import Kernels
from tests.learning.predict.cases import features

A, B, Y = features()
K, CROSS, PRIOR = A @ A.T, B @ A.T, B @ B.T


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


WRONG = [
    ({"t": -1.0}, ValueError, r"times t >= 0 .*got -1.0"),
    ({"t": [0.0, np.nan]}, ValueError, r"times t >= 0 .*got nan"),
    ({"t": -np.inf}, ValueError, r"times t >= 0 .*got -inf"),
    ({"t": None}, TypeError, r"expected t to be real numbers, got NoneType"),
    ({"t": "late"}, TypeError, r"expected t to be real numbers, got str"),
    ({"learning_rate": 0.0}, ValueError, r"learning_rate to be a finite number > 0, got 0.0"),
    ({"learning_rate": np.nan}, ValueError, "learning_rate"),
    ({"learning_rate": [1.0, 2.0]}, ValueError, "learning_rate"),
    ({"diag_reg": -1e-3}, ValueError, r"diag_reg to be a finite number >= 0, got -0.001"),
    ({"diag_reg": np.inf}, ValueError, "diag_reg"),
    ({"k_train": K[:, :4]}, ValueError, r"k_train to be a square kernel \(n, n\) .*got \(6, 4\)"),
    ({"k_train": K[:0, :0]}, ValueError, r"n >= 1, got \(0, 0\)"),
    ({"k_train": K[0]}, ValueError, r"k_train to be a kernel matrix, two axes, got shape \(6,\)"),
    ({"k_train": changed(K, (2, 3), np.nan)}, ValueError, r"k_train: the kernel holds NaN .*first K\[2, 3\] = nan"),
    ({"k_train": changed(K, (2, 3), 99.0)}, ValueError, r"symmetric kernel, but K\[2, 3\] = 99 and K\[3, 2\]"),
    ({"k_train": -K}, ValueError, r"diagonal has K\[\d, \d\] = -"),
    ({"k_train": K * 1j}, TypeError, "k_train to be real numbers, got ndarray of complex128"),
    ({"k_train": Kernels(K, K)}, TypeError, r"k_train to be one kernel, got a Kernels. Pass its .ntk or .nngp"),
    ({"y_train": Y[:5]}, ValueError, r"y_train \(6,\) or \(6, k\), a target for each row of k_train, got \(5, 2\)"),
    ({"y_train": Y[:, :0]}, ValueError, r"y_train"),
    ({"y_train": Y[..., None]}, ValueError, r"y_train .*got \(6, 2, 1\)"),
    ({"y_train": 1.0}, ValueError, r"y_train"),
    ({"y_train": changed(Y, (1, 1), np.inf)}, ValueError, "y_train holds NaN or infinity"),
    ({"y_train": ["a"] * 6}, TypeError, "y_train to be real numbers"),
    ({"k_test": CROSS.T}, ValueError, r"k_test \(m, 6\), a row for each test .*got \(6, 4\). Pass k_test.T"),
    ({"k_test": CROSS[:, :5]}, ValueError, r"k_test \(m, 6\).*got \(4, 5\)\.$"),
    ({"k_test": changed(CROSS, (0, 1), np.inf)}, ValueError, r"k_test: the kernel holds NaN .*first K\[0, 1\] = inf"),
    ({"f0_train": Y[:, 0]}, ValueError, r"f0_train to be a number or to broadcast .*\(6, 2\), got \(6,\)"),
    ({"f0_train": np.nan}, ValueError, "f0_train holds NaN"),
    ({"f0_test": Y}, ValueError, r"f0_test .*\(4, 2\), got \(6, 2\)"),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG)
def test_wrong_arguments(change, error, message):
    arguments = {"k_train": K, "y_train": Y, "k_test": CROSS, "t": 1.0}
    predict.gradient_flow(**arguments)
    with pytest.raises(error, match=message) as caught:
        predict.gradient_flow(**(arguments | change))
    assert str(caught.value).startswith("predict.gradient_flow")
    if "f0_test" in change or "k_test" in change:
        return
    for function in (predict.loss_curve, predict.loss_per_mode):
        with pytest.raises(error, match=message):
            function(**({name: value for name, value in arguments.items() if name != "k_test"} | change))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"get": "ntkgp"}, ValueError, 'get to be "ntk" or "nngp", got \'ntkgp\''),
        ({"k_train": K}, TypeError, "k_train to hold the kernel nngp, .*got ndarray without it"),
        ({"k_train": Kernels(K, None)}, TypeError, "k_train to hold the kernel ntk"),
        ({"k_test": Kernels(None, CROSS)}, TypeError, "k_test to hold the kernel nngp"),
        ({"k_train": Kernels(K[:5, :5], K)}, ValueError, r"k_train.nngp \(6, 6\) as k_train.ntk, got \(5, 5\)"),
        ({"k_test": Kernels(CROSS[:3], CROSS)}, ValueError, r"k_test.nngp \(4, 6\) as k_test.ntk, got \(3, 6\)"),
        ({"k_test": Kernels(CROSS.T, CROSS)}, ValueError, r"k_test.nngp \(m, 6\)"),
        ({"k_train": Kernels(changed(K, 0, np.nan), K)}, ValueError, "k_train.nngp: the kernel holds NaN"),
        ({"k_test_test": PRIOR[:3]}, ValueError, r"k_test_test \(4, 4\) .*got \(3, 4\)"),
        ({"k_test_test": changed(PRIOR, (1, 2), np.nan)}, ValueError, "k_test_test: the kernel holds NaN"),
        ({"k_test_test": None}, TypeError, "k_test_test to be real numbers"),
        ({"t": -1.0}, ValueError, "times"),
    ],
)
def test_wrong_arguments_of_ensembles(change, error, message):
    both = Kernels(K, K), Kernels(CROSS, CROSS)
    arguments = {"k_train": both[0], "y_train": Y, "k_test": both[1], "k_test_test": PRIOR, "t": 1.0}
    predict.ensemble(**arguments)
    with pytest.raises(error, match=message) as caught:
        predict.ensemble(**(arguments | change))
    assert str(caught.value).startswith("predict.ensemble")


def test_wrong_arguments_of_posteriors():
    with pytest.raises(ValueError, match="gp_posterior: expected ridge to be a finite number >= 0"):
        predict.gp_posterior(K, Y, CROSS, PRIOR, -1.0)
    with pytest.raises(ValueError, match=r"k_test_test \(4, 4\)"):
        predict.gp_posterior(K, Y, CROSS, K)


def test_arguments_are_left_alone_and_may_be_lists():
    copies = K.copy(), Y.copy(), CROSS.copy()
    result = predict.gradient_flow(*copies, [1.0, np.inf])
    for copy, original in zip(copies, (K, Y, CROSS), strict=True):
        np.testing.assert_array_equal(copy, original)
    lists = predict.gradient_flow(K.tolist(), Y.tolist(), CROSS.tolist(), (1, np.inf))
    np.testing.assert_array_equal(lists, result)
    half = jnp.asarray(CROSS, jnp.bfloat16)
    np.testing.assert_allclose(predict.gradient_flow(K, Y, half, 1.0), result[0], rtol=0.05, atol=0.05)
