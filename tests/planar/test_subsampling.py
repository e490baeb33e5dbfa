"""Strides: against the direct recursion on pixels, strided convolutions of JAX and neural-tangents, invariance, refusals."""

import jax
import numpy as np
import pytest

import planar
import so3ntk
from planar import GroupConv, Lift, Subsample
from so3ntk import Dense, Erf, GroupPool, Relu, serial
from tests.oracles.images import evaluate

EPS = np.finfo(np.float64).eps


def images(count, height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, height, width, 2))


#: Odd and even strides, every padding, twice, borders that are left over, global support, one position left, rectangles.
NETWORKS = {
    "C4, even stride of odd positions": ("C4", (7, 7), lambda group: (
        Lift((3, 3), "SAME", group, b_std=0.3), Subsample(2), Relu(), GroupConv((3, 3), "SAME", b_std=0.2), Subsample(3), Erf())),
    "D4, cut borders and remainders": ("D4", (9, 9), lambda group: (
        Lift((2, 2), "VALID", group, b_std=0.3), Relu(), Subsample(3), GroupConv((2, 2), "VALID"), Erf())),
    "C4, global support": ("C4", (6, 6), lambda group: (
        Lift(None, group=group, b_std=0.3), Relu(), Subsample(3), GroupConv((1, 1)), Erf())),
    "C2, a rectangle": ("C2", (5, 7), lambda group: (
        Lift((3, 3), "CIRCULAR", group, b_std=0.3), Erf(), Subsample(2), GroupConv((3, 3), "SAME"))),
    "C1, any offset": ("C1", (6, 5), lambda group: (
        Lift((3, 3), "SAME", group, b_std=0.3), Subsample(2, offset=1), Relu(), GroupConv((2, 2), "SAME"))),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_recursion_on_pixels_and_invariance(name):
    """Turns map the positions to each other, so that they leave kernels of their group as they are."""
    group, shape, layers = NETWORKS[name]
    net, x, y = serial(*layers(group), GroupPool(), Dense()), images(1, *shape), images(2, *shape, seed=1)
    turn = 1 if group in ("C4", "D4") else 2
    turned = np.rot90(y[:1], turn, (1, 2))
    slow = evaluate(net, x, y)
    for kernel, expected in zip(net.kernel_fn(x, np.concatenate([y, turned])), slow, strict=True):
        assert np.abs(kernel[:, :2] - expected).max() < 200 * EPS * np.abs(expected).max()  # some thousand terms
        same = abs(kernel[0, 2] / kernel[0, 0] - 1)
        assert same > 1e-6 if group == "C1" else same < 1e-12


@pytest.mark.parametrize(("padding", "offset"), [("VALID", 0), ("SAME", 1)])
def test_finite_networks_are_strided_convolutions(padding, offset):
    """Of JAX with strides (2, 2), whose padding "SAME" begins at the second of eight positions."""
    x = images(2, 8, 8)
    net = serial(Lift((3, 3), padding, "C1", width=4), Subsample(2, offset))
    params = net.init_fn(jax.random.key(0), x.shape)[1]
    filters = np.asarray(jax.tree.leaves(params)[0])
    weights = filters.reshape(3, 3, 2, 4) / np.sqrt(18)
    expected = jax.lax.conv_general_dilated(x, weights, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(np.asarray(net.apply_fn(params, x)).reshape(expected.shape), expected, atol=1e-12)


def test_finite_networks_are_equivariant():
    x = images(2, 7, 7)
    net = serial(
        Lift((3, 3), "SAME", "D4", width=3),
        Subsample(2),
        Relu(),
        GroupConv((3, 3), width=3),
        Subsample(3, 0),
        GroupPool(),
    )
    params = net.init_fn(jax.random.key(1), x.shape)[1]
    values = np.asarray(net.apply_fn(params, x))
    for moved in (np.rot90(x, 1, (1, 2)), x[:, :, ::-1]):
        np.testing.assert_allclose(net.apply_fn(params, moved), values, atol=1e-12)
    assert np.abs(values[0] - values[1]).max() > 1e-3


@pytest.mark.parametrize(("padding", "offset"), [("VALID", 0), ("SAME", 1)])
def test_neural_tangents(padding, offset):
    stax = pytest.importorskip("neural_tangents.stax")
    x = images(3, 8, 8)
    conv = {"filter_shape": (3, 3), "padding": padding, "W_std": 1.3, "b_std": 0.2}
    theirs = stax.serial(stax.Conv(1, strides=(2, 2), **conv), stax.Relu(), stax.Conv(1, (3, 3), padding="SAME"), stax.Erf(),
                         stax.GlobalAvgPool(), stax.Dense(1))[2]  # fmt: skip
    ours = serial(
        Lift(group="C1", **conv),
        Subsample(2, offset),
        Relu(),
        GroupConv((3, 3), padding="SAME"),
        Erf(),
        GroupPool(),
        Dense(),
    )
    for get in ("nngp", "ntk"):
        np.testing.assert_allclose(ours.kernel_fn(x, None, get), theirs(x, None, get), rtol=1e-10)


def kernel(n, *layers):
    return serial(*layers).kernel_fn(images(1, n, n))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Subsample(0), "expected stride to be an integer >= 1, got 0"),
    (lambda: Subsample(2, -1), "expected offset to be an integer >= 0, got -1"),
    (lambda: kernel(8, Lift((3, 3)), Relu(), Subsample(2), GroupPool()), "every 2 positions of 8 along an axis do not lie evenly"),
    (lambda: kernel(7, Lift((3, 3)), Subsample(3, 1), GroupPool()), "every 3 positions from the position 1 on of 7"),
    (lambda: kernel(4, Lift((3, 3), group="C1"), Subsample(2, 4), GroupPool()), "any offset below the number of positions"),
    (lambda: kernel(8, Lift(None), Relu(), Subsample(3), GroupPool()), "must divide the 8 x 8 positions of the torus, got 3"),
    (lambda: kernel(4, Lift(None), Relu(), Subsample(2), GroupPool()), "do not lie evenly about the centre"),
    (lambda: kernel(4, Lift((3, 3)), GroupPool(), Subsample(3)), "planar.Subsample: there are no positions left"),
])  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_saved_and_loaded(tmp_path):
    net = serial(Lift((3, 3)), Subsample(3, 1), Relu(), GroupPool(), Dense())
    so3ntk.save(net, tmp_path / "net.npz")
    assert so3ntk.load(tmp_path / "net.npz").layers == net.layers
    assert planar.Subsample(3, 1) == net.layers[1]
