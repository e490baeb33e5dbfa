"""Local mean pooling: against the direct recursion on pixels, invariance, and what it refuses."""

import numpy as np
import pytest

import planar
from planar import AvgPool, GroupConv, Lift
from so3ntk import Erf, FanInSum, FanOut, GroupPool, Identity, Relu, parallel, serial
from tests.oracles.images import evaluate

EPS = np.finfo(np.float64).eps


def images(count, n, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n, n, 2))


#: Circular padding, and a nonlinearity before: in test_conformance.
NETWORKS = {
    "valid, right after a convolution": ("C4", 7, lambda group: (
        Lift((2, 2), "VALID", group, b_std=0.3), GroupConv((3, 3), "VALID", b_std=0.2), AvgPool((2, 2)), Relu(), GroupPool())),
    "global support, twice, to one position": ("D4", 6, lambda group: (
        Lift(None, group=group, b_std=0.3), Relu(), AvgPool((2, 2)), GroupConv((3, 3)), AvgPool((3, 3)), GroupConv((1, 1)), Erf(),
        GroupPool())),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_recursion_on_pixels_and_invariance(name):
    """Quarter turns map tiles to tiles, so that they leave C4's and D4's kernels as they are, and not those of C1."""
    group, n, layers = NETWORKS[name]
    net, x, y = serial(*layers(group)), images(1, n), images(2, n, seed=1)
    moved = np.concatenate([y[:1], *(np.rot90(y[:1], k, (1, 2)) for k in (1, 2))])
    slow, plain = evaluate(net, x, y), evaluate(serial(*layers("C1")), x, moved)
    kernels = net.kernel_fn(x, np.concatenate([y, moved[1:]]))
    for kernel, expected, other in zip(kernels, slow, plain, strict=True):
        assert (
            np.abs(kernel[:, :2] - expected).max() < 200 * EPS * np.abs(expected).max()
        )  # sums of some thousand terms
        np.testing.assert_allclose(kernel[0, 2:], kernel[0, 0], rtol=1e-12)
        assert np.abs(other[0, 1:] / other[0, 0] - 1).min() > 1e-6


def test_window_of_one_pixel_is_the_identity():
    x = images(2, 3)
    plain = evaluate(serial(Lift((3, 3), "SAME", "C2"), Erf(), GroupPool()), x)
    pooled = serial(Lift((3, 3), "SAME", "C2"), AvgPool((1, 1)), Erf(), GroupPool()).kernel_fn(x)
    for kernel, expected in zip(pooled, plain, strict=True):
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=100 * EPS * np.abs(expected).max())


def kernel(n, *layers):
    return serial(*layers).kernel_fn(images(1, n))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AvgPool((2, 3)), r"expected a square window .* got \(2, 3\)"),
        (lambda: AvgPool(2), "expected a square window"),  # pyright: ignore[reportArgumentType]
        (lambda: AvgPool((0, 0)), "w > 0"),
        (lambda: AvgPool((2.0, 2.0)), "expected a square window"),  # pyright: ignore[reportArgumentType]
        (lambda: kernel(5, Lift((3, 3)), Relu(), AvgPool((2, 2)), GroupPool()), "2 x 2 do not tile the 5 x 5 positions"),
        (lambda: kernel(6, Lift((2, 2), "VALID"), AvgPool((3, 3)), GroupPool()), "do not tile the 5 x 5"),
        (lambda: kernel(5, Lift(None), Relu(), AvgPool((2, 2)), GroupPool()), "do not tile the 5 x 5"),
        (lambda: kernel(4, Lift((3, 3)), FanOut(2), parallel(Identity(), AvgPool((2, 2))), FanInSum(), GroupPool()),
         "in the outer serial, not in a branch"),
        (lambda: kernel(4, Lift((3, 3)), GroupPool(), AvgPool((2, 2))), "no positions left to pool"),
        (lambda: kernel(4, Lift(None), GroupPool(), AvgPool((2, 2))), "no positions left to pool"),
        (lambda: kernel(4, planar.Flatten(), AvgPool((2, 2))), "no positions left to pool"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
