"""Predictions against values frozen from neural-tangents, and against it where it can be imported."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from so3ntk import predict
from so3ntk.engine.network import Kernels

FOLDER = Path(__file__).parents[2] / "reference"
REFERENCE = json.loads((FOLDER / "predict_values.json").read_text())
BLOCKS = {
    name: Kernels(*(np.array(block[get]) for get in Kernels._fields)) for name, block in REFERENCE["kernels"].items()
}
TIMES, RATE = REFERENCE["times"], REFERENCE["learning_rate"]
CASES = [(k, d) for k in (1, 3) for d in (0.0, 1e-3)]
#: The kernels' conditions are below 100, so that rounding is far below.
TOLERANCE = 1e-8


def problem(k, diag_reg):
    assert TIMES == [0, 1, 10, 1e3]
    return np.array(REFERENCE["y"])[:, :k], f"{k}, {diag_reg}"


@pytest.mark.parametrize(("k", "diag_reg"), CASES)
def test_gradient_flow(k, diag_reg):
    y, case = problem(k, diag_reg)
    expected = REFERENCE["flow"][case]
    blocks = BLOCKS["train"].ntk, y, BLOCKS["test"].ntk
    actual = predict.gradient_flow(*blocks, TIMES, RATE, diag_reg)
    np.testing.assert_allclose(actual, expected["zero"], rtol=0, atol=TOLERANCE)
    for t, frozen in zip(TIMES, expected["zero"], strict=True):
        np.testing.assert_allclose(predict.gradient_flow(*blocks, t, RATE, diag_reg), frozen, rtol=0, atol=TOLERANCE)
    other = predict.gradient_flow(*blocks, TIMES, RATE, diag_reg, f0_train=y - 1, f0_test=0.5)
    np.testing.assert_allclose(other, expected["other"], rtol=0, atol=TOLERANCE)
    if diag_reg:
        end = predict.gradient_flow(*blocks, learning_rate=RATE, diag_reg=diag_reg)
        np.testing.assert_allclose(end, expected["infinity"], rtol=0, atol=TOLERANCE)
    if k == 1:
        flat = predict.gradient_flow(blocks[0], y[:, 0], blocks[2], TIMES, RATE, diag_reg)
        np.testing.assert_allclose(flat, np.array(expected["zero"])[..., 0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("get", ["nngp", "ntk"])
@pytest.mark.parametrize(("k", "diag_reg"), CASES)
def test_ensembles(k, diag_reg, get):
    y, case = problem(k, diag_reg)
    expected = REFERENCE["ensemble"][case][get]
    blocks = BLOCKS["train"], y, BLOCKS["test"], BLOCKS["test_test"]
    mean, covariance = predict.ensemble(*blocks, TIMES, get, RATE, diag_reg)
    np.testing.assert_allclose(mean, expected["mean"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(covariance, expected["covariance"], rtol=0, atol=TOLERANCE)
    if diag_reg:
        mean, covariance = predict.ensemble(*blocks, math.inf, get, RATE, diag_reg)
        np.testing.assert_allclose(mean, expected["infinity"]["mean"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(covariance, expected["infinity"]["covariance"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("k", [1, 3])
def test_max_learning_rate(k, momentum):
    expected = REFERENCE["max_learning_rate"][f"{k}, {momentum}"]
    assert predict.max_learning_rate(BLOCKS["train"].ntk, k, momentum) == pytest.approx(expected, rel=1e-11)


def test_file_is_what_neural_tangents_gives():
    """The file against a live run of the script that wrote it: another processor may round otherwise."""
    try:
        import neural_tangents  # noqa: F401  # pyright: ignore
    except Exception as error:  # on a newer jax its import ends in an AttributeError
        pytest.skip(f"neural-tangents 0.6.5 needs jax <= 0.5.3: {error}")
    spec = importlib.util.spec_from_file_location("make_predict_values", FOLDER / "make_predict_values.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert_same(script.values(), REFERENCE)


def assert_same(live, stored):
    """To 1e-10: rounding times the condition of the kernel."""
    if isinstance(stored, dict):
        assert live.keys() == stored.keys()
        for key, values in stored.items():
            assert_same(live[key], values)
    else:
        np.testing.assert_allclose(live, stored, rtol=1e-10, atol=1e-10)
