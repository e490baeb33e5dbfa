"""Kernels of images before pooling: against the direct recursion, and the group's action on them."""

import jax
import numpy as np
import pytest

import planar
import so3ntk
from planar.groups import views
from so3ntk import Dense, Erf, GroupPool, Relu, serial
from tests.oracles.images import evaluate_field, turned

EPS = np.finfo(np.float64).eps


def images(count, size, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *size, 2))


def on_pixels(field):
    """Axes (.., h, d, d, x, x) -> (.., h, x, x, x', x'), where x' = x + d modulo the number of positions."""
    rows, columns = (np.arange(n) for n in field.shape[-2:])
    down, right = ((x[None] - x[:, None]) % len(x) for x in (rows, columns))
    y, x = rows[:, None, None, None], columns[None, :, None, None]
    return np.asarray(field)[..., down[:, None, :, None], right[None, :, None, :], y, x]


def assert_close(actual, desired):
    """Sums of some thousand terms."""
    np.testing.assert_allclose(actual, desired, rtol=0, atol=100 * EPS * np.abs(desired).max())


def same_image(image, others):
    """Which of the others it is."""
    (index,) = [i for i, other in enumerate(others) if np.array_equal(image, other)]
    return index


NETWORKS = {
    "circular": (
        (4, 4),
        planar.Lift((3, 3), "CIRCULAR", "D4", b_std=0.3),
        Erf(),
        planar.GroupConv((3, 3), W_std=1.2),
        Relu(),
    ),
    "valid": ((5, 5), planar.Lift((2, 2), "VALID", "C4"), Erf(), planar.GroupConv((3, 3), "SAME", b_std=0.2)),
    "coarse": (
        (4, 4),
        planar.Lift((3, 3), "SAME", "D4"),
        Erf(),
        planar.AvgPool((2, 2)),
        planar.GroupConv((1, 1)),
        Erf(),
    ),
    "valid, coarse, rectangles": (
        (5, 7),
        planar.Lift((2, 2), "VALID", "C2"),
        Erf(),
        planar.AvgPool((2, 2)),
        planar.GroupConv((1, 1)),
        Erf(),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_the_action_of_the_group(name):
    """P_h(s f, f')(x, x') = P_(s^-1 h)(f, f')(s^-1 x, s^-1 x') for each element s, P_h(f, s f') = P_(h s)(f, f')."""
    size, lift, *layers = NETWORKS[name]
    group, (f, g) = lift.group, images(2, size)
    order = len(planar.GROUPS[group])
    copies = [turned(image[None], group)[0] for image in (f, g)]
    assert np.array_equal(copies[0], views(f, group))  # the order of elements along the axis h
    field = serial(lift, *layers).kernel_fn(*copies)
    labels = np.arange(np.prod(size)).reshape(1, *size, 1)
    elements = turned(labels, group)[0]
    product = np.array([[same_image(hs, elements) for hs in turned(s[None], group)[0]] for s in elements]).T  # [h, s]
    assert sorted(product[1]) == list(range(order))
    for values, slow in zip(field[:2], evaluate_field(serial(lift, *layers), *copies), strict=True):
        kernel, scale = on_pixels(values), np.abs(values).max()
        assert_close(kernel, slow)
        for s in range(order):
            np.testing.assert_allclose(values[0, s], values[0, 0][product[:, s]], rtol=0, atol=1e-13 * scale)
            inverse = product[s] == 0
            back = kernel[0, 0][product[np.flatnonzero(inverse)[0]]]
            assert_close(kernel[s, 0], moved_positions(back, group, s))
            if s:  # neither is trivial, and nor are the positions
                assert np.abs(values[0, s] - values[0, 0]).max() > 1e-2 * scale
                assert np.abs(kernel[s, 0] - kernel[0, 0]).max() > 1e-2 * scale
                assert np.abs(kernel[s, 0] - back).max() > 1e-2 * scale


def moved_positions(kernel, group, s):
    """Axes (h, x, x, x', x') with both positions under element s."""
    n, m = kernel.shape[-2:]
    channels = turned(kernel.transpose(1, 2, 0, 3, 4).reshape(1, n, m, -1), group)[0, s]
    kernel = channels.reshape(n, m, -1, n, m).transpose(3, 4, 2, 0, 1)
    channels = turned(kernel.reshape(1, n, m, -1), group)[0, s]
    return channels.reshape(n, m, -1, n, m).transpose(2, 3, 4, 0, 1)


def test_shifts_on_the_torus():
    """A shift of either image shifts its positions; f' is seen turned by h, and so is its shift."""
    (n, _), lift, *layers = NETWORKS["circular"]
    (f, g), shift = images(2, (n, n)), (1, 2)
    values = serial(lift, *layers).kernel_fn(
        np.stack([f, np.roll(f, shift, (0, 1))]), np.stack([g, np.roll(g, shift, (0, 1))])
    )
    kernel = on_pixels(values.ntk)
    assert_close(kernel[1, 0], np.roll(kernel[0, 0], shift, (1, 2)))
    labels = np.arange(n * n).reshape(1, n, n, 1)
    for h, (before, after) in enumerate(
        zip(turned(labels, "D4")[0], turned(np.roll(labels, shift, (1, 2)), "D4")[0], strict=True)
    ):
        (seen,) = [t for t in np.ndindex(n, n) if np.array_equal(np.roll(before, t, (0, 1)), after)]
        assert_close(kernel[0, 1, h], np.roll(kernel[0, 0, h], seen, (2, 3)))
        assert np.abs(kernel[0, 1, h] - kernel[0, 0, h]).max() > 1e-2 * np.abs(kernel).max()


def test_global_support():
    """The kernel is the same at all positions x, so its axes are h and d = x' alone."""
    x, layers = images(2, (4, 4)), (planar.Lift(None, group="D4", b_std=0.3), Relu(), planar.GroupConv(None), Erf())
    found = serial(*layers).kernel_fn(x[:1], x[1:])
    pooled = serial(*layers, GroupPool()).kernel_fn(x[:1], x[1:])
    for values, slow, mean in zip(found[:2], evaluate_field(serial(*layers), x[:1], x[1:]), pooled, strict=True):
        assert_close(values, slow[..., 0, 0, :, :])
        assert_close(np.mean(values), mean[0, 0])  # pooled through the polynomial of the tower


def test_names_precision_and_transformations():
    layers = planar.Lift((2, 2), "VALID", "C4"), Erf()
    x, net = images(2, (4, 4)), serial(*layers)
    whole = net.kernel_fn(x)
    single = net.kernel_fn(x.astype(np.float32), get="ntk")
    assert (single.nngp, single.motions, single.weights) == (None, None, None)
    assert single.ntk.dtype == np.float32
    np.testing.assert_allclose(
        single.ntk, whole.ntk, rtol=0, atol=100 * np.finfo(np.float32).eps * np.abs(whole.ntk).max()
    )
    traced = jax.jit(lambda a: net.kernel_fn(a, get="ntk").ntk)(x)
    assert_close(traced, whole.ntk)
    with pytest.raises(ValueError, match=r"add GroupPool\(\)"):
        so3ntk.gram(serial(*layers, Dense()), x)
