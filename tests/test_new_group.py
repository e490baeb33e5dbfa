"""examples/new_group.py: a group that the packages do not know, against the explicit mean over its motions."""

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, Erf, FanInSum, FanOut, Flatten, GroupConv, GroupPool, Identity, Relu, parallel, serial

EPS = np.finfo(np.float64).eps


def _load():
    path = Path(__file__).parents[1] / "examples" / "new_group.py"
    spec = importlib.util.spec_from_file_location("new_group", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["new_group"] = importlib.util.module_from_spec(spec)  # where dataclasses look for annotations
    spec.loader.exec_module(module)
    return module


new_group = _load()
CircleLift = new_group.CircleLift


def signals(count, n, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n, channels))


def motion(x, reflections, steps):
    """[rho(r) f](x) = f(r^-1 x) on samples: reflect about sample 0, then turn by whole samples."""
    for _ in range(reflections):
        x = np.roll(x[:, ::-1], 1, axis=1)
    return np.roll(x, steps, axis=1)


def explicit_mean(net, x, y):
    """The mean of a fully connected network's kernels over all motions of y."""
    n = y.shape[1]
    copies = np.concatenate([motion(y, e, k) for e in (0, 1) for k in range(n)])
    kernels = net.kernel_fn(new_group.rows(x), new_group.rows(copies))
    return [np.mean(np.reshape(kernel, (len(x), 2 * n, len(y))), axis=1) for kernel in kernels]


def group_network(activation: type[so3ntk.Activation] = Relu, tail=()):
    return serial(CircleLift(W_std=1.2, b_std=0.3), activation(), GroupConv(W_std=1.3, b_std=0.1), activation(),
                  GroupPool(), Dense(b_std=0.2), *tail)  # fmt: skip


def relative(actual, desired):
    return np.abs(np.asarray(actual) - np.asarray(desired)).max() / np.abs(np.asarray(desired)).max()


@pytest.mark.parametrize(("activation", "n"), [(Relu, 1), (Relu, 7), (Erf, 8)])
def test_mean_over_all_motions(activation, n):
    """Two batches without a pair that coincides: there the NTK of Relu is as good as everything else."""
    x, y = signals(2, n), signals(3, n, seed=1)
    plain = serial(Flatten(), Dense(W_std=1.2, b_std=0.3), activation(), Dense(W_std=1.3, b_std=0.1), activation(),
                   Dense(b_std=0.2))  # fmt: skip
    for kernel, expected in zip(group_network(activation).kernel_fn(x, y), explicit_mean(plain, x, y), strict=True):
        assert relative(kernel, expected) < 1e-12  # the polynomial of the tower; sums of 2n terms


def test_moved_signals():
    """Turning or reflecting either signal leaves the kernel as it is; without the average over the group it does not."""
    x = signals(2, 7)
    copies = np.concatenate([motion(x[1:], e, k) for e in (0, 1) for k in (0, 1, 5)])
    kernel = np.asarray(group_network().kernel_fn(x[:1], copies, "ntk"))[0]
    back = np.asarray(group_network().kernel_fn(copies, x[:1], "ntk"))[:, 0]
    np.testing.assert_allclose(kernel, kernel[0], rtol=1e-12)
    np.testing.assert_allclose(back, kernel[0], rtol=1e-12)
    plain = new_group.plain_network().kernel_fn(new_group.rows(x[:1]), new_group.rows(copies), "ntk")[0]
    assert np.abs(plain[1:] / plain[0] - 1).min() > 1e-4


def test_finer_samples_of_a_band_limited_signal():
    """The kernels converge to those of O(2), which are invariant to any angle: here half a sample's."""
    coefficients = np.random.default_rng(0).normal(size=(2, 2, 3))

    def sampled(n, angle=0.0):
        phase = np.multiply.outer(2 * np.pi * np.arange(n) / n - angle, np.arange(3))
        return (coefficients[0] @ np.cos(phase).T + coefficients[1] @ np.sin(phase).T)[..., None]

    errors = []
    for n in (8, 32):
        kernel = group_network(Erf).kernel_fn(sampled(n)[:1], sampled(n)[1:], "ntk")
        turned = group_network(Erf).kernel_fn(sampled(n)[:1], sampled(n, np.pi / n)[1:], "ntk")
        errors.append(relative(turned, kernel))
    assert errors[1] < 1e-3 * errors[0]


@pytest.mark.slow
def test_matrix_of_a_batch_with_itself():
    """Symmetry, positivity, tilings, single precision; with a copy, a turned copy and zero among the signals."""
    x = signals(6, 8)
    x[3], x[4], x[5] = x[0], motion(x[1:2], 1, 3)[0], 0
    net = group_network(tail=(Relu(), Dense()))  # a nonlinearity after pooling, too
    whole = net.kernel_fn(x)
    root = 8 * EPS**0.5  # of aligned pairs, whose correlation by FFT is off by eps: the NTK of a kink has a cusp there
    for kernel, other in zip(whole, net.kernel_fn(x, x.copy()), strict=True):
        np.testing.assert_array_equal(kernel, kernel.T)
        np.testing.assert_allclose(kernel, other, rtol=0, atol=root * np.abs(kernel).max())
        values = np.linalg.eigvalsh(kernel)
        assert values[0] > -root * values[-1]
    np.testing.assert_allclose(net.kernel_fn(x, x[::-1], "nngp")[:, ::-1], whole.nngp, rtol=1e-12)
    tiled = so3ntk.gram(net, x, tile=4, progress=False)
    np.testing.assert_allclose(tiled, whole.ntk, rtol=0, atol=root * np.abs(tiled).max())
    np.testing.assert_array_equal(tiled, tiled.T)
    np.testing.assert_allclose(so3ntk.kernel_diagonal(net, x), np.diag(whole.ntk), rtol=1e-6)
    single = net.kernel_fn(jnp.asarray(x, jnp.float32))
    for kernel, double in zip(single, whole, strict=True):
        assert kernel.dtype == np.float32
        assert relative(kernel, double) < 8 * np.finfo(np.float32).eps ** 0.5
    assert net.kernel_fn(x[:0], x, "ntk").shape == (0, 6)


def test_positive_to_rounding_without_kinks():
    x = np.concatenate([signals(3, 6), motion(signals(3, 6), 1, 2)])
    values = np.linalg.eigvalsh(group_network(Erf).kernel_fn(x, None, "ntk"))
    assert values[0] > -1e-12 * values[-1]


def test_residual_block():
    """Combinators know nothing of the group: the kernels of a sum of branches are the sums of theirs."""
    x, y = signals(2, 6), signals(2, 6, seed=1)
    branch = serial(Relu(), GroupConv())
    net = serial(CircleLift(), FanOut(2), parallel(Identity(), branch), FanInSum(), GroupPool())
    parts = [serial(CircleLift(), layer, GroupPool()).kernel_fn(x, y) for layer in (Identity(), branch)]
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(getattr(net.kernel_fn(x, y), name), sum(getattr(k, name) for k in parts), rtol=1e-12)


def test_derivatives():
    """In the signals and in the hyperparameters, under jit, against central differences."""
    x, y = jnp.asarray(signals(2, 6)), signals(2, 6, seed=1)
    direction, step = signals(2, 6, seed=2), 1e-5

    @jax.jit
    def value(W_std, x):
        net = serial(CircleLift(W_std=W_std, b_std=0.3), Erf(), GroupConv(), GroupPool())
        return jnp.sum(net.kernel_fn(x, y, "ntk"))

    slopes = jax.grad(value, argnums=(0, 1))(1.1, x)
    by_width = (value(1.1 + step, x) - value(1.1 - step, x)) / (2 * step)
    by_signal = (value(1.1, x + step * direction) - value(1.1, x - step * direction)) / (2 * step)
    np.testing.assert_allclose(slopes[0], by_width, rtol=1e-7)  # eps / step, and the step's square
    np.testing.assert_allclose(np.vdot(slopes[1], direction), by_signal, rtol=1e-7)


def test_derivatives_are_finite_where_signals_coincide_or_vanish():
    x = jnp.asarray(signals(2, 6))
    special = jnp.concatenate([x, x[:1], -x[:1], 0 * x[:1]])
    net = serial(CircleLift(), Relu(), GroupPool())
    slope = jax.grad(lambda x: jnp.sum(net.kernel_fn(x, None, "ntk")))(special)
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_the_example_says_so():
    assert max(new_group.compare_with_explicit_mean().values()) < 1e-12
    errors = new_group.regression_errors(40)
    assert errors["invariant"] < 3 < 10 < errors["plain"]  # degrees; measured at 25 and 50 signals 0.9, 0.3 and 37, 20


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: group_network().kernel_fn(signals(2, 6)[..., 0]), ValueError, "add the axis"),
        (lambda: group_network().kernel_fn(signals(2, 0)), ValueError, r"got an array of shape \(2, 0, 2\)"),
        (lambda: group_network().kernel_fn(1j * signals(2, 6)), TypeError, "complex"),
        (lambda: group_network().kernel_fn(signals(2, 6), signals(2, 7)), ValueError, "do not fit each other"),
        (lambda: group_network().kernel_fn(np.full((2, 6, 1), np.nan)), ValueError, "NaN or infinity"),
        (lambda: CircleLift(parametrization="standard"), ValueError, "needs a width"),
        (lambda: serial(CircleLift(), GroupConv(bandlimit=3), GroupPool()).kernel_fn(signals(2, 6)),
         NotImplementedError, "CircleGeometry has no filter of the kind"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
