"""Kernels of image networks: against the direct recursion on pixels, and symmetries."""

import jax
import numpy as np
import pytest

import planar
import so3ntk
from planar import GroupConv, Lift
from so3ntk import Dense, Erf, FanInSum, FanOut, GroupPool, Identity, Relu, parallel, serial
from tests.oracles.images import evaluate

EPS = np.finfo(np.float64).eps


def images(count, n, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n, n, channels))


def network(size, padding, group):
    return serial(Lift((size, size), padding, group, W_std=1.2, b_std=0.3), GroupConv((size, size), padding, W_std=1.3),
                  Relu(), GroupPool())  # fmt: skip


def relative(actual, desired):
    return np.abs(np.asarray(actual) - np.asarray(desired)).max() / np.abs(np.asarray(desired)).max()


def assert_recursion(net, x, y):
    """Sums of some thousand terms."""
    for kernel, slow in zip(net.kernel_fn(x, y), evaluate(net, x, y), strict=True):
        assert relative(kernel, slow) < 100 * EPS


@pytest.mark.parametrize("n", [5, 6, 7, 8])
@pytest.mark.parametrize("padding", ["CIRCULAR", "SAME", "VALID"])
def test_turned_and_shifted_images(padding, n):
    """Quarter turns of either image leave the kernel of C4 as it is; so do shifts, where the image is a torus."""
    x, (y,) = images(1, n), images(1, n, seed=1)
    moved = np.stack([*(np.rot90(y, k) for k in range(4)), np.roll(np.rot90(y), (2, -1), (0, 1))])
    both = np.concatenate([x, np.rot90(x, 1, (1, 2))])
    net, same = network(3, padding, "C4"), 5 if padding == "CIRCULAR" else 4
    plain = evaluate(network(3, padding, "C1"), x, moved[:4])
    slow = evaluate(net, x, moved[::4])
    for kernel, expected, other in zip(net.kernel_fn(both, moved), slow, plain, strict=True):
        assert relative(kernel[:1, ::4], expected) < 100 * EPS
        np.testing.assert_allclose(kernel[:, :same], kernel[0, 0], rtol=1e-12)
        np.testing.assert_allclose(kernel[1], kernel[0], rtol=1e-12)
        if same < 5:
            assert np.abs(kernel[:, 4] / kernel[0, 0] - 1).min() > 1e-4
        assert np.abs(other[0, 1:4] / other[0, 0] - 1).min() > 1e-5  # without the group there is no invariance


LOCAL = [
    (Lift((3, 3), "VALID", "D4"), Relu(), GroupConv((3, 3), "SAME", b_std=0.2), Relu(), GroupConv((2, 2), "VALID")),
    (Lift((4, 4), "SAME", "C1"), Relu(), GroupConv((2, 2), "CIRCULAR"), Erf(), GroupConv((2, 2), "SAME", b_std=0.2)),
    (Lift((5, 5), "SAME", "C2", b_std=0.3), Erf(), GroupConv((3, 3), "SAME"), Erf(), GroupConv(None)),
    (
        Lift((1, 1), "SAME", "C2"),
        FanOut(2),
        parallel(
            GroupConv((3, 3), "VALID"),  # as many positions, other pixels
            serial(GroupConv((2, 2), "VALID"), Relu(), GroupConv((2, 2), "VALID")),
        ),
        FanInSum(),
        Relu(),
    ),
]
GLOBAL = [  # of one degree of homogeneity; the whole torus as a window; others in test_rectangles
    (Lift(None, group="C4"), Relu(), GroupConv(None, W_std=1.3), Relu()),
    (Lift((5, 5), group="C1", b_std=0.3), Relu(), GroupConv(None), Relu()),
]


@pytest.mark.parametrize("layers", LOCAL + GLOBAL)
def test_recursion_on_pixels(layers):
    """Other groups, windows and paddings; global support is the mean over all pixels of both images."""
    assert_recursion(serial(*layers, GroupPool(), Dense(b_std=0.2)), images(2, 5), images(2, 5, seed=1))


def test_ordinary_linear_network():
    """The tangent kernel alone: jax 0.10.2 fails to compile it where images are shifted by jnp.roll."""
    net, x = serial(Lift((3, 3), "SAME", "C1"), GroupConv((3, 3), "SAME"), GroupPool(), Dense()), images(2, 8, 1)
    nngp, ntk = evaluate(net, x)
    assert relative(net.kernel_fn(x, x, "ntk"), ntk) < 100 * EPS
    assert relative(ntk, 3 * nngp) < 100 * EPS


def test_diagonal():
    x, net = images(3, 4), serial(Lift((3, 3), "SAME"), Erf(), GroupPool())
    np.testing.assert_allclose(so3ntk.kernel_diagonal(net, x), np.diag(net.kernel_fn(x, get="ntk")), rtol=100 * EPS)


def test_flatten_is_the_dense_network_on_pixels():
    x = images(3, 4)
    net = serial(planar.Flatten(), Dense(b_std=0.1), Relu(), Dense())
    rows = serial(so3ntk.Flatten(), Dense(b_std=0.1), Relu(), Dense())
    np.testing.assert_array_equal(net.kernel_fn(x, None, "ntk"), rows.kernel_fn(x.reshape(3, -1), None, "ntk"))


@pytest.mark.usefixtures("optimized")
def test_regression_and_classification():
    data = planar.datasets.load_digits()
    split = planar.datasets.stratified_split(data, 60, 60, seed=0)
    net = serial(Lift((3, 3), "SAME", "C1"), Relu(), GroupConv((3, 3), "SAME"), Relu(), GroupPool(), Dense())
    model = so3ntk.KernelClassifier(net).fit(split[0].images, split[0].labels)
    assert model.score(split[1].images, split[1].labels) > 0.7


def drawn(net, height, width=None):
    """Random parameters for images of one channel."""
    return net.init_fn(jax.random.key(0), (1, height, width or height, 1))[1]


def applied(net, x):
    return net.apply_fn(drawn(net, x.shape[1]), x)


def test_signals_on_the_sphere_are_no_images():
    with pytest.raises(TypeError, match=r"planar.Lift: expected an array of images \(N, H, W, C\), got SphereSignal"):
        network(3, "SAME", "C4").kernel_fn(so3ntk.SphereSignal(np.ones((2, 4, 1)), 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Lift((3, 5)), "square"),
        (lambda: Lift((4, 4), "SAME"), "even filter"),
        (lambda: Lift((2, 2)), "even filter"),
        (lambda: Lift((2, 2), group="C2"), "even filter"),
        (lambda: serial(Lift((3, 3)), GroupConv((2, 2), "SAME"), GroupPool()).kernel_fn(images(1, 5)), "GroupConv: an even"),
        (lambda: serial(Lift(None), GroupConv((2, 2)), GroupPool()).kernel_fn(images(1, 5)), "GroupConv: an even"),
        (lambda: serial(so3ntk.Lift(), Relu(), GroupConv((3, 3)), GroupPool()), "one kind of signals.*so3ntk.Lift for the "),
        (lambda: serial(so3ntk.Lift(), planar.AvgPool((2, 2))), "one kind of signals.*planar.AvgPool for images"),
        (lambda: Lift((3, 3), "REFLECT"), "padding to be one of CIRCULAR, SAME, VALID"),
        (lambda: Lift((3, 3), group="C3"), "group to be one of C1, C2, C4, D4"),
        (lambda: GroupConv(None, "SAME"), "global support"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5)[..., 0]), "add the axis"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5)[:, :4]), "square images"),
        (lambda: network(3, "VALID", "C4").kernel_fn(images(2, 4)), "larger than the 2 x 2"),
        (lambda: serial(Lift(None), Relu(), GroupConv((3, 3), "SAME"), GroupPool()).kernel_fn(images(1, 5)),
         "border that is no longer there"),
        (lambda: serial(Lift((3, 3), "VALID"), GroupConv((3, 3)), GroupPool()).kernel_fn(images(1, 5)),
         "no longer a torus"),
        (lambda: serial(Lift((3, 3), "SAME"), FanOut(2), parallel(Identity(), GroupConv((5, 5), "VALID")), FanInSum(),
                        GroupPool()).kernel_fn(images(1, 5)), "branches end with 5 x 5 and 1 x 1 positions"),
        (lambda: serial(planar.Flatten(), GroupConv((3, 3))).kernel_fn(images(1, 5)), "Use Dense here"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5), images(2, 6)), "do not fit each other"),
        (lambda: network(3, "SAME", "C4").kernel_fn(images(2, 5), images(2, 5, 3)), "do not fit each other"),
        (lambda: drawn(serial(Lift((3, 3), "VALID", width=2), GroupConv((4, 4), "VALID", width=2)), 5), "larger than the 3"),
        (lambda: drawn(serial(Lift((3, 3), width=2), GroupConv((2, 2), width=2)), 5), "GroupConv: an even"),
        (lambda: drawn(serial(Lift((3, 3), width=2)), 5, 4), "square images"),
        (lambda: applied(serial(Lift((3, 3), width=2)), images(1, 5)), r"for 1 channels .* the input has 2"),
        (lambda: network(3, "SAME", "C4").kernel_fn(np.full((2, 5, 5, 1), np.nan)), "NaN or infinity"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
