"""Fully connected networks against values frozen from neural-tangents, and against it where it can be imported."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, FanInSum, FanOut, Flatten, Identity, parallel, serial

FOLDER = Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((FOLDER / "mlp_values.json").read_text())
X1, X2 = np.asarray(REFERENCE["x1"]), np.asarray(REFERENCE["x2"])


def build(layer, parametrization):
    """The layer of this library for an entry of the file."""
    match layer:
        case ["Dense", width, weight, bias]:
            return Dense(width, W_std=weight, b_std=bias, parametrization=parametrization)
        case ["Skip", layers]:
            branch = serial(*(build(inner, parametrization) for inner in layers))
            return serial(FanOut(2), parallel(Identity(), branch), FanInSum())
        case [activation]:
            return getattr(so3ntk, activation)()
    raise ValueError(f"unknown layer {layer!r}")


def assert_agrees(name, expected, actual):
    """To 1e-12 of the largest value; a kinked NTK to root of eps between an input and itself or its antipode.

    There a rounding of the cosine moves the angle by its root, at each nonlinearity.
    """
    for kernel in ("nngp", "ntk"):
        values = np.asarray(expected[kernel])
        tolerance = np.full_like(values, 1e-12)
        if kernel == "ntk" and "Relu" in name:
            tolerance[[0, 0, 1], [0, 1, 2]] = 3 * 4 * np.finfo(np.float64).eps ** 0.5
        error = np.abs(np.asarray(getattr(actual, kernel)) - values) / np.abs(values).max()
        assert np.all(error <= tolerance), f"{kernel}: {error.max():.1e}"


#: Every network in one parametrisation; layers read the other in those of every kind of ``Dense``: branches, no bias.
CASES = [*((name, "ntk") for name in REFERENCE["networks"]), ("Erf, depth 3", "standard"), ("Relu, skip", "standard")]


@pytest.mark.parametrize(("name", "parametrization"), CASES)
def test_frozen_values(name, parametrization):
    reference = REFERENCE["networks"][name]
    net = serial(Flatten(), *(build(layer, parametrization) for layer in reference["layers"]))
    assert_agrees(name, reference[parametrization], net.kernel_fn(X1, X2))


def test_parametrizations_differ():
    """Or the file would hold one of them twice."""
    for reference in REFERENCE["networks"].values():
        ntk, standard = (np.asarray(reference[p]["ntk"]) for p in ("ntk", "standard"))
        assert np.abs(ntk - standard).max() > np.abs(ntk).max()
        np.testing.assert_array_equal(reference["ntk"]["nngp"], reference["standard"]["nngp"])


@pytest.mark.filterwarnings("ignore:`FanIn` layers assume independent inputs")
def test_file_is_what_neural_tangents_gives():
    """The file against a live run of the script that wrote it: another processor may round otherwise."""
    try:
        import neural_tangents  # noqa: F401
    except Exception as error:  # on a newer jax its import ends in an AttributeError
        pytest.skip(f"neural-tangents 0.6.5 needs jax <= 0.5.3: {error}")
    spec = importlib.util.spec_from_file_location("make_mlp_values", FOLDER / "make_mlp_values.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for live, stored in zip(script.inputs(), (X1, X2), strict=True):
        np.testing.assert_array_equal(live, stored)
    assert REFERENCE["networks"].keys() == script.NETWORKS.keys()
    for name, reference in REFERENCE["networks"].items():
        assert reference["layers"] == script.NETWORKS[name]
        for parametrization in ("ntk", "standard"):
            live = script.kernels(reference["layers"], parametrization, X1, X2)
            for kernel, values in live.items():
                stored = np.asarray(reference[parametrization][kernel])
                np.testing.assert_allclose(values, stored, rtol=0, atol=1e-12 * np.abs(stored).max())
