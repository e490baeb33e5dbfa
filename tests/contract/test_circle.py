"""examples/new_group.py: a group that the packages do not know, against the explicit mean over its motions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    FanInSum,
    FanOut,
    Flatten,
    GroupConv,
    GroupPool,
    Identity,
    Monomial,
    Relu,
    parallel,
    serial,
)
from tests.contract.circle import new_group

EPS = np.finfo(np.float64).eps


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


def group_network():
    return serial(CircleLift(W_std=1.2, b_std=0.3), Relu(), GroupConv(W_std=1.3, b_std=0.1), Relu(), GroupPool())


def relative(actual, desired):
    return np.abs(np.asarray(actual) - np.asarray(desired)).max() / np.abs(np.asarray(desired)).max()


#: Not homogeneous: a tower with the variances of each pair.
SMOOTH = serial(CircleLift(b_std=0.3), Erf(), GroupPool())


def test_mean_over_all_motions():
    """Of Erf; ``compare_with_explicit_mean`` has Relu, and two layers of it."""
    x, y = signals(2, 8, 1), signals(3, 8, 1, seed=1)
    plain = serial(Flatten(), Dense(b_std=0.3), Erf())
    for kernel, expected in zip(SMOOTH.kernel_fn(x, y), explicit_mean(plain, x, y), strict=True):
        assert relative(kernel, expected) < 1e-12  # the polynomial of the tower; sums of 2n terms


def test_one_sample():
    x = jnp.asarray(signals(2, 1))
    found = serial(CircleLift(), GroupPool()).kernel_fn(x, get="nngp")
    np.testing.assert_allclose(found, np.einsum("anc,bnc->ab", x, x) / 2, rtol=1e-14)


def test_finer_samples_of_a_band_limited_signal():
    """The kernels converge to those of O(2), which are invariant to any angle: here half a sample's."""
    coefficients = np.random.default_rng(0).normal(size=(2, 2, 3))

    def sampled(n, angle=0.0):
        phase = np.multiply.outer(2 * np.pi * np.arange(n) / n - angle, np.arange(3))
        return (coefficients[0] @ np.cos(phase).T + coefficients[1] @ np.sin(phase).T)[..., None]

    errors = []
    for n in (8, 32):
        both = np.concatenate([sampled(n)[1:], sampled(n, np.pi / n)[1:]])
        ((kernel, turned),) = SMOOTH.kernel_fn(sampled(n)[:1], both).ntk
        errors.append(relative(turned, kernel))
    assert errors[1] < 1e-3 * errors[0]


def test_it_passes_the_checks():
    """With a nonlinearity after pooling and a residual block: combinators know nothing of the group."""
    block = (FanOut(2), parallel(Identity(), serial(Relu(), GroupConv())), FanInSum())
    net = serial(CircleLift(W_std=1.2, b_std=0.3), *block, GroupPool(), Dense(b_std=0.2), Monomial(2))
    so3ntk.testing.check_symmetry(net, signals(3, 7))
    so3ntk.testing.check_derivatives(net, signals(3, 7))
    so3ntk.testing.check_invariance(net, signals(3, 7), lambda x: motion(x, 1, 3))


def test_products_of_channels():
    """Exact for a finite group as for all: the mean of the fully connected network's kernels over all motions."""
    x, y = signals(2, 7), signals(3, 7, seed=1)
    hidden = so3ntk.Products([0.2, 0.5, 0.3]), so3ntk.Products([0, 0.4, 0.6])
    net = serial(CircleLift(W_std=1.2, b_std=0.3), hidden[0], GroupConv(W_std=1.3), hidden[1], GroupPool(), Dense())
    plain = serial(Flatten(), Dense(W_std=1.2, b_std=0.3), hidden[0], Dense(W_std=1.3), hidden[1], Dense())
    for kernel, expected in zip(net.kernel_fn(x, y), explicit_mean(plain, x, y), strict=True):
        assert relative(kernel, expected) < 1e-13


def test_derivatives_are_finite_where_signals_coincide_or_vanish():
    x = jnp.asarray(signals(2, 6))
    special = jnp.concatenate([x, x[:1], -x[:1], 0 * x[:1]])
    net = serial(CircleLift(), Relu(), GroupPool())
    slope = jax.jit(jax.grad(lambda x: jnp.sum(net.kernel_fn(x, None, "ntk"))))(special)
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_the_example_says_so():
    assert max(new_group.compare_with_explicit_mean().values()) < 1e-12
    errors = new_group.regression_errors(40, test=40)
    assert (
        errors["invariant"] < 3 < 10 < errors["plain"]
    )  # degrees; measured at 25, 40 and 50 signals 0.9, 0.4, 0.3 and 37, 26, 20


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
