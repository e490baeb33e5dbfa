"""Groups that the packages do not know, the circle and the torus: ``so3ntk.testing``, and means over explicit motions.

The oracle is a recursion in NumPy on one pair of moved signals at a time: at each position the kernel, and both variances.
"""

import numpy as np
import pytest

import planar
from so3ntk import Dense, Erf, GroupConv, GroupPool, Monomial, Relu, serial, testing
from so3ntk.engine.filters import Cap, Everywhere
from tests.contract.circle import new_group as circle
from tests.contract.torus import GlobalTorus, LocalTorus, TorusLift

ARC, BOX = 1.1, 1.6
FIRST, SECOND = {"W_std": 1.2, "b_std": 0.3}, {"W_std": 1.3, "b_std": 0.1}


def local_network(lift, support):
    return serial(lift(support=support, **FIRST), Relu(), GroupConv(support=support, **SECOND), Relu(), GroupPool(),
                  Dense(b_std=0.2))  # fmt: skip


def circle_signals(count, n=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n, 2))


def torus_signals(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 4, 2))


def circle_motions(f):
    n = len(f)
    return [f[(sign * (np.arange(n) - k)) % n] for sign in (1, -1) for k in range(n)]


def torus_motions(f):
    return [np.roll(f, (d, e), axis=(0, 1)) for d in range(f.shape[0]) for e in range(f.shape[1])]


def average_matrix(shape, angle):
    """From values at all points to means over those within an angle along each axis."""
    near = np.ones((1, 1))
    for n in shape:
        steps = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        near = np.kron(near, np.minimum(steps, n - steps) * 2 * np.pi / n <= angle + 1e-9)
    return near / near.sum(axis=1, keepdims=True)


def explicit(f, moved, angle, shape):
    """NNGP and NTK of ``local_network`` for one pair of signals at no relative motion, the mean over positions."""
    a, b = (signal.reshape(-1, signal.shape[-1]) for signal in (f, moved))
    mean = average_matrix(shape, angle)
    kernel, q1, q2 = ((s * t).mean(axis=1) for s, t in ((a, b), (a, a), (b, b)))
    tangent = np.zeros_like(kernel)
    for scales in (FIRST, SECOND):
        W2, b2 = scales["W_std"] ** 2, scales["b_std"] ** 2
        new = W2 * (mean @ kernel) + b2
        tangent, kernel = new + W2 * (mean @ tangent), new
        q1, q2 = W2 * (mean @ q1) + b2, W2 * (mean @ q2) + b2
        kernel, slope, q1, q2 = relu(kernel, q1, q2)
        tangent = slope * tangent
    nngp, ntk = kernel.mean(), tangent.mean()
    return np.array([nngp + 0.04, nngp + 0.04 + ntk])


def relu(kernel, q1, q2):
    """The closed form of Cho and Saul, written here once more."""
    norm = np.sqrt(q1 * q2)
    angle = np.arccos(np.clip(kernel / norm, -1, 1))
    dual = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return dual, (np.pi - angle) / (2 * np.pi), q1 / 2, q2 / 2


CASES = {
    "circle, arcs": (circle.CircleLift, ARC, circle_signals, circle_motions, lambda x: np.roll(x[:, ::-1], 2, axis=1)),
    "torus, boxes": (TorusLift, BOX, torus_signals, torus_motions, lambda x: np.roll(x, (1, 3), axis=(1, 2))),
}


@pytest.mark.parametrize(("lift", "angle", "signals", "motions"), [c[:4] for c in CASES.values()], ids=CASES)
def test_local_filters_are_the_mean_over_motions(lift, angle, signals, motions):
    """Through the generic ``GroupConv``. The filters see a part: more than a point, less than everything."""
    x, y = signals(2), signals(2, seed=1)
    shape = x.shape[1:-1]
    assert 1 < (average_matrix(shape, angle)[0] > 0).sum() < np.prod(shape)
    found = local_network(lift, angle).kernel_fn(x, y)
    for i in range(2):
        for j in range(2):
            expected = np.mean([explicit(x[i], moved, angle, shape) for moved in motions(y[j])], axis=0)
            np.testing.assert_allclose([found.nngp[i, j], found.ntk[i, j]], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("lift", "angle", "signals", "moved"), [(c[0], c[1], c[2], c[4]) for c in CASES.values()], ids=CASES
)
def test_they_pass_the_checks(lift, angle, signals, moved):
    """Smooth and local, so that every bound is that of rounding."""
    net = serial(
        lift(support=angle, **FIRST), GroupConv(support=angle, **SECOND), Monomial(2), GroupPool(), Dense(b_std=0.2)
    )
    testing.check_network(net, signals(3), moved)


@pytest.mark.parametrize(
    "geometry", [circle.CircleGeometry(circle.Angles(12)), circle.ArcGeometry()], ids=["global", "arcs"]
)
def test_the_circles_geometries(geometry):
    testing.check_geometry(geometry, *circle_signals(2), (Everywhere(), Cap(ARC)))


@pytest.mark.parametrize("geometry", [GlobalTorus(), LocalTorus()], ids=["global", "boxes"])
def test_the_toruss_geometries(geometry):
    testing.check_geometry(geometry, *torus_signals(2), (Everywhere(), Cap(BOX)))


@pytest.mark.parametrize("n", [5, 6])
def test_a_quadrature_of_the_circle(n):
    """A lifting layer that asks for one gets it: finer angles, between the samples, against signals moved by interpolation."""
    x, y = circle_signals(2, n), circle_signals(2, n, seed=1)
    if n % 2 == 0:  # no highest frequency, which a shift by half a sample loses
        x, y = (s - np.mean(s * (-1.0) ** np.arange(n)[:, None], axis=1, keepdims=True) * (-1.0) ** np.arange(n)[:, None]
                for s in (x, y))  # fmt: skip
    net = serial(circle.CircleLift(**FIRST), Erf(), GroupPool(), quadrature=circle.Angles(4 * n))
    spectrum, frequencies = np.fft.rfft(y, axis=1), np.arange(n // 2 + 1)[:, None]
    copies = []
    for k in range(4 * n):
        turned = np.fft.irfft(spectrum * np.exp(-2j * np.pi * frequencies * k / (4 * n)), n, axis=1)
        copies += [turned, np.roll(turned[:, ::-1], 1, axis=1)]
    plain = serial(circle.CircleLift(**FIRST), Erf())  # before pooling: the identity motion is the first of the field
    at_identity = np.asarray(plain.kernel_fn(x, np.concatenate(copies)).nngp)[:, :, 0, 0]
    each = at_identity.reshape(2, 4 * n, 2, 2)  # of a signal of x; the angle, the reflection, the signal of y
    expected, coarse = each.mean(axis=(1, 2)), each[:, ::4].mean(axis=(1, 2))
    np.testing.assert_allclose(net.kernel_fn(x, y, "nngp"), expected, rtol=1e-12)
    assert np.abs(coarse / expected - 1).max() > 1e-9


def test_a_filter_that_a_geometry_does_not_know_is_refused():
    for lift, x in ((circle.CircleLift, circle_signals(2)), (TorusLift, torus_signals(2))):
        for support in (None, 1.0):
            net = serial(lift(support=support), GroupConv(bandlimit=2), GroupPool())
            with pytest.raises(NotImplementedError, match="has no filter of the kind Spectrum"):
                net.kernel_fn(x)


def test_a_check_that_fails_says_what():
    """Motions that are none of the group's, and a geometry whose mean forgets a position."""
    net = serial(circle.CircleLift(), Erf(), GroupPool())
    with pytest.raises(AssertionError, match="a motion of x1 changes the kernels: nngp by"):
        testing.check_invariance(net, circle_signals(3), lambda x: x[:, [1, 0, 2, 3, 4, 5]])
    with pytest.raises(AssertionError, match="give a motion that moves"):
        testing.check_invariance(net, circle_signals(3), lambda x: x)

    class Forgetful(GlobalTorus):
        def mean(self, field):
            return field.mean() * 0.99

    with pytest.raises(AssertionError, match="mean of a constant"):
        testing.check_geometry(Forgetful(), *torus_signals(2))


def test_single_precision_is_refused_where_it_cannot_pass():
    f, g = torus_signals(2).astype(np.float32)
    with pytest.raises(ValueError, match="check_geometry: expected signals in double precision, got float32"):
        testing.check_geometry(GlobalTorus(), f, g)
    testing.check_geometry(GlobalTorus(), f, g, error=1e-4)
    images = np.ones((2, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="check_network"):
        testing.check_network(serial(planar.Lift((3, 3)), GroupPool()), images, error=1e-4)


def test_the_generic_convolution_on_images():
    """Filters that see everything are those of ``planar.GroupConv(None)``; caps and spectra are refused by name."""
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1))
    first = (planar.Lift((3, 3), **FIRST), Relu())
    found, expected = (serial(*first, conv, Relu(), GroupPool()).kernel_fn(x)
                       for conv in (GroupConv(**SECOND), planar.GroupConv(None, **SECOND)))  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
    for conv in (GroupConv(support=0.5), GroupConv(bandlimit=2)):
        with pytest.raises(NotImplementedError, match=r"Cap|Spectrum"):
            serial(*first, conv, GroupPool()).kernel_fn(x)
