"""Kernels of image networks: against the direct recursion on pixels, symmetries, and global against local support."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk import Dense, Erf, FanInSum, FanOut, GroupPool, Identity, Relu, parallel, serial
from tests.oracles.images import image_kernels

EPS = np.finfo(np.float64).eps
ACTIVATIONS = {"relu": Relu, "erf": Erf}


def images(count, n, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n, n, channels))


def network(size, padding, group, activation=Relu, head=True):
    layers = [planar.Lift(size and (size, size), padding, group, W_std=1.2, b_std=0.3), activation(),
              planar.GroupConv(size and (size, size), padding, W_std=1.3), activation(), GroupPool()]  # fmt: skip
    return serial(*layers, *([Dense(b_std=0.2)] if head else []))


def relative(actual, desired):
    return np.abs(np.asarray(actual) - desired).max() / np.abs(desired).max()


@pytest.mark.parametrize("group", planar.GROUPS)
@pytest.mark.parametrize(("size", "padding"), [(3, "CIRCULAR"), (3, "SAME"), (3, "VALID"), (2, "VALID"), (5, "SAME")])
def test_recursion_on_pixels(size, padding, group):
    activation = "erf" if padding == "SAME" else "relu"
    x, y = images(2, 5), images(2, 5, seed=1)
    found = network(size, padding, group, ACTIVATIONS[activation]).kernel_fn(x, y)
    layers = [(size, padding, 1.2, 0.3), activation, (size, padding, 1.3, 0.0), activation]
    slow = np.array([[image_kernels(f, g, layers, group, (1.0, 0.2)) for g in y] for f in x])
    for index, kernel in enumerate(found):  # sums of some thousand terms
        assert relative(kernel, slow[..., index]) < 100 * EPS


def test_paddings_can_follow_each_other():
    x, y = images(1, 6), images(1, 6, seed=1)
    net = serial(planar.Lift((3, 3), "VALID", "C4"), Relu(), planar.GroupConv((3, 3), "SAME"), Relu(),
                 planar.GroupConv((2, 2), "VALID"), GroupPool(), Dense())  # fmt: skip
    slow = image_kernels(x[0], y[0], [(3, "VALID", 1, 0), "relu", (3, "SAME", 1, 0), "relu", (2, "VALID", 1, 0)], "C4")
    for kernel, expected in zip(net.kernel_fn(x, y), slow, strict=True):
        assert relative(kernel, expected) < 100 * EPS


@pytest.mark.parametrize("n", [5, 6, 7, 8])
@pytest.mark.parametrize("padding", ["CIRCULAR", "SAME", "VALID"])
def test_turned_and_shifted_images(padding, n):
    """Quarter turns of either image leave the kernel of C4 as it is; so do shifts, where the image is a torus."""
    x = images(2, n)
    net = network(3, padding, "C4", Erf)
    moved = [np.rot90(x[1], k) for k in range(4)] + [np.roll(np.rot90(x[1]), (2, -1), (0, 1))]
    kernel = np.asarray(net.kernel_fn(x[:1], np.stack(moved), "ntk"))[0]
    back = np.asarray(net.kernel_fn(np.stack(moved), x[:1], "ntk"))[:, 0]
    same = len(moved) if padding == "CIRCULAR" else 4
    for values in (kernel, back):
        np.testing.assert_allclose(values[:same], kernel[0], rtol=1e-12)
    if padding != "CIRCULAR":
        assert abs(kernel[4] / kernel[0] - 1) > 1e-4
    plain = np.asarray(network(3, padding, "C1", Erf).kernel_fn(x[:1], np.stack(moved), "ntk"))[0]
    assert abs(plain[1] / plain[0] - 1) > 1e-4  # without the group there is nothing to be invariant


@pytest.mark.parametrize("group", ["C1", "D4"])
def test_global_support_is_a_window_of_the_whole_torus(group):
    """By FFT and one polynomial against windows of n x n pixels, displacement by displacement."""
    x, y = images(3, 5), images(2, 5, seed=1)
    for activation in (Relu, Erf):
        found = network(None, "CIRCULAR", group, activation).kernel_fn(x, y)
        local = network(5, "CIRCULAR", group, activation).kernel_fn(x, y)
        for kernel, expected in zip(found, local, strict=True):
            assert relative(kernel, expected) < 1e-12


def test_a_global_layer_among_local_ones():
    x = images(2, 5)
    mixed = (planar.Lift((3, 3)), Relu(), planar.GroupConv(None), Relu(), GroupPool())
    local = (planar.Lift((3, 3)), Relu(), planar.GroupConv((5, 5)), Relu(), GroupPool())
    for kernel, expected in zip(serial(*mixed).kernel_fn(x), serial(*local).kernel_fn(x), strict=True):
        assert relative(kernel, expected) < 1e-12


def test_matrix_of_a_batch_with_itself():
    x = images(5, 5)
    x[3], x[4] = x[0], 0
    net = serial(*network(3, "SAME", "C4").layers, Relu(), Dense())  # a nonlinearity after pooling, too
    whole = net.kernel_fn(x)
    for kernel, other in zip(whole, net.kernel_fn(x, x.copy()), strict=True):
        np.testing.assert_array_equal(kernel, kernel.T)
        np.testing.assert_allclose(kernel, other, rtol=0, atol=8 * EPS**0.5 * np.abs(kernel).max())
        assert np.linalg.eigvalsh(kernel)[0] > -1e-7 * np.abs(kernel).max()
    tiled = so3ntk.gram(net, x, tile=2, progress=False)
    np.testing.assert_allclose(tiled, whole.ntk, rtol=0, atol=8 * EPS**0.5 * np.abs(tiled).max())
    np.testing.assert_array_equal(tiled, tiled.T)
    np.testing.assert_allclose(so3ntk.kernel_diagonal(net, x), np.diag(tiled), rtol=1e-6)
    single = net.kernel_fn(jnp.asarray(x, jnp.float32))
    for kernel, double in zip(single, whole, strict=True):
        assert kernel.dtype == np.float32
        assert relative(kernel, double) < 8 * np.finfo(np.float32).eps ** 0.5
    assert net.kernel_fn(x[:0], x, "ntk").shape == (0, 5)


def test_residual_block():
    """The kernels of a sum of branches are the sums of theirs."""
    x, y = images(1, 5), images(1, 5, seed=1)
    branch = serial(Relu(), planar.GroupConv((3, 3), "SAME"))
    net = serial(planar.Lift((3, 3), "SAME", "C2"), FanOut(2), parallel(Identity(), branch), FanInSum(), GroupPool())
    lift = (3, "SAME", 1.0, 0.0)
    nngp, readout = sum(image_kernels(x[0], y[0], layers, "C2") for layers in ([lift], [lift, "relu", lift]))
    found = net.kernel_fn(x, y)
    assert relative(found.nngp, nngp) < 100 * EPS
    assert relative(found.ntk, readout - nngp) < 100 * EPS  # image_kernels ends in a dense layer, which adds the NNGP


def test_derivatives_under_jit():
    x, y = images(1, 4, 1), images(1, 4, 1, seed=1)

    def value(W_std, x):
        net = serial(planar.Lift((3, 3), "SAME", W_std=W_std), Erf(), planar.GroupConv((3, 3), "SAME"), GroupPool())
        return net.kernel_fn(x, y, "ntk")[0, 0]

    slopes = jax.jit(jax.grad(value, argnums=(0, 1)))(1.1, jnp.asarray(x))
    direction = np.random.default_rng(2).normal(size=x.shape)
    step = 1e-5
    by_width = (value(1.1 + step, x) - value(1.1 - step, x)) / (2 * step)
    by_image = (value(1.1, x + step * direction) - value(1.1, x - step * direction)) / (2 * step)
    np.testing.assert_allclose(slopes[0], by_width, rtol=1e-8)
    np.testing.assert_allclose(np.vdot(slopes[1], direction), by_image, rtol=1e-7)


def test_flatten_is_the_dense_network_on_pixels():
    x = images(3, 4)
    net = serial(planar.Flatten(), Dense(b_std=0.1), Relu(), Dense())
    rows = serial(so3ntk.Flatten(), Dense(b_std=0.1), Relu(), Dense())
    np.testing.assert_array_equal(net.kernel_fn(x, None, "ntk"), rows.kernel_fn(x.reshape(3, -1), None, "ntk"))


def test_regression_and_classification():
    data = planar.datasets.load_digits()
    split = planar.datasets.stratified_split(data, 60, 60, seed=0)
    net = serial(
        planar.Lift((3, 3), "SAME", "C1"), Relu(), planar.GroupConv((3, 3), "SAME"), Relu(), GroupPool(), Dense()
    )
    model = so3ntk.KernelClassifier(net).fit(split[0].images, split[0].labels)
    assert model.score(split[1].images, split[1].labels) > 0.7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: planar.Lift((3, 5)), "square"),
        (lambda: planar.Lift((4, 4), "SAME"), "even filter"),
        (lambda: planar.Lift((2, 2)), "even filter"),
        (lambda: planar.Lift((3, 3), "REFLECT"), "padding to be one of CIRCULAR, SAME, VALID"),
        (lambda: planar.Lift((3, 3), group="C3"), "group to be one of C1, C2, C4, D4"),
        (lambda: planar.GroupConv(None, "SAME"), "global support"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5)[..., 0]), "add the axis"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5)[:, :4]), "square images"),
        (lambda: network(3, "VALID", "C4").kernel_fn(images(2, 4)), "larger than the 2 x 2"),
        (lambda: serial(planar.Lift(None), Relu(), planar.GroupConv((3, 3), "SAME"), GroupPool()).kernel_fn(images(1, 5)),
         "border that is no longer there"),
        (lambda: serial(planar.Lift((3, 3), "VALID"), planar.GroupConv((3, 3)), GroupPool()).kernel_fn(images(1, 5)),
         "no longer a torus"),
        (lambda: serial(planar.Flatten(), planar.GroupConv((3, 3))).kernel_fn(images(1, 5)), "Use Dense here"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5), images(2, 6)), "do not fit each other"),
        (lambda: network(3, "SAME", "C4").kernel_fn(np.full((2, 5, 5, 1), np.nan)), "NaN or infinity"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
