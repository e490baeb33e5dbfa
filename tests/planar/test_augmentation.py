"""Augmentation is equivariance, for images: quarter turns, reflections and cyclic shifts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
from planar.groups import views
from so3ntk import Activation, Dense, Erf, GroupPool, Relu, augment_dataset, augmented, serial
from so3ntk.learning.augmentation import inverses
from so3ntk.learning.predict import gradient_flow

EPS = np.finfo(np.float64).eps
TIMES = [0.5, 5.0, 100.0, math.inf]


def images(count, n=5, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(count, n, n, channels))


def convolutional(group, size: int | None = 3, padding="SAME", activation: type[Activation] = Erf):
    shape = None if size is None else (size, size)
    return serial(planar.Lift(shape, padding, group, W_std=1.2, b_std=0.3), activation(),
                  planar.GroupConv(shape, padding, W_std=1.3, b_std=0.1), activation(), GroupPool(),
                  Dense(b_std=0.2))  # fmt: skip


def plain(activation: type[Activation] = Erf):
    return serial(planar.Flatten(), Dense(W_std=1.2, b_std=0.3), activation(), Dense(W_std=1.3, b_std=0.1),
                  activation(), Dense(b_std=0.2))  # fmt: skip


def relative(actual, desired):
    return np.abs(np.asarray(actual) - np.asarray(desired)).max() / np.abs(np.asarray(desired)).max()


def flows(kernel_fn, x, y, others):
    """Predictions (t, m, k) at the images ``others``, and the condition number of the training matrix."""
    train = kernel_fn(x, None, "ntk")
    values = np.linalg.eigvalsh(train)
    return gradient_flow(train, y, kernel_fn(others, x, "ntk"), TIMES), values[-1] / values[0]


def off_the_manifold(x):
    """The training images; images like them; a much larger and a constant one; a single pixel."""
    n, pixel = x.shape[1], np.zeros_like(x[:1])
    pixel[:, 1, 0] = 1
    return np.concatenate([x, images(2, n, seed=1), 30 * images(1, n, seed=2), np.ones_like(x[:1]), pixel])


def apart(found, expected):
    """The largest difference of predictions (t, m, k), relative to the largest prediction at the same image."""
    return np.max(np.abs(found - expected).max(axis=(0, 2)) / np.abs(expected).max(axis=(0, 2)))


def test_cnn_to_group_network():
    """Quarter turns are the half of these, and other padding is trained below."""
    group, padding = "D4", "VALID"
    x, y = images(3), images(2, seed=1)
    average = augmented(convolutional("C1", 3, padding).kernel_fn, planar.motions(group))
    net = convolutional(group, 3, padding)
    own = average(x)
    for kernels in (average(x, y), net.kernel_fn(x, y)), (own, net.kernel_fn(x)):
        for kernel, expected in zip(*kernels, strict=True):
            assert relative(kernel, expected) < 100 * EPS
    np.testing.assert_array_equal(own.ntk, own.ntk.T)


def test_fully_connected_to_global_support():
    """The mean over shifts too; D4 ⋉ Z² for an even size, where turns are about the corner of four pixels."""
    group, n = "D4", 2
    x, y = images(2, n), images(2, n, seed=1)
    average = augmented(plain(Relu).kernel_fn, planar.motions(group, size=n))
    for kernel, expected in zip(
        average(x, y), convolutional(group, None, "CIRCULAR", Relu).kernel_fn(x, y), strict=True
    ):
        assert relative(kernel, expected) < 1e-12  # the polynomial of the tower, and FFTs


@pytest.mark.slow
def test_some_of_the_shifts():
    """Shifts by two pixels are a group between none and all: the mean over it, then over the cosets, is that over all."""
    x, y = images(2, 4), images(2, 4, seed=1)
    average = augmented(plain().kernel_fn, planar.motions("C1", size=4, stride=2))
    assert len(planar.motions("C1", size=4, stride=2)) == 4
    cosets = [average(x, np.roll(y, shift, (1, 2)), "ntk") for shift in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert relative(np.mean(cosets, axis=0), convolutional("C1", None, "CIRCULAR").kernel_fn(x, y, "ntk")) < 1e-12
    assert relative(cosets[1], cosets[0]) > 1e-3


@pytest.mark.slow
def test_training_on_moved_copies_is_training_the_group_network():
    """The theorem, at four times, on and off the manifold, with two outputs; reflections are among the kernels above."""
    group = "C4"
    x, y = images(2, 4), np.random.default_rng(3).normal(size=(2, 2))
    others = off_the_manifold(x)
    base = convolutional("C1").kernel_fn
    found, condition = flows(base, *augment_dataset(x, y, planar.motions(group)), others)
    expected, _ = flows(convolutional(group).kernel_fn, x, y, others)
    without, _ = flows(base, x, y, others)
    assert apart(found, expected) < 10 * EPS * condition < 1e-9  # a solution is as good as the matrix's condition
    np.testing.assert_allclose(found[-1, :2], y, rtol=0, atol=10 * EPS * condition)
    assert apart(without[:, 2:4], expected[:, 2:4]) > 0.01  # copies do change the plain network
    assert relative(expected[0], expected[1]) > 0.05  # and nothing has converged by the first time


@pytest.mark.parametrize("n", [3, 4])
def test_products(n):
    """The table of products says what moving twice does; inverses move back."""
    group, x = planar.motions("D4", size=n), images(1, n)
    back, identity = inverses(group, "test")
    assert identity == 0
    moved = [np.asarray(copy) for copy in group.act(x)]
    for i in range(0, len(group), 7):
        products = group.products(i)
        for j in range(0, len(group), 5):
            np.testing.assert_array_equal(group.move(moved[j], i), moved[products[j]])
        np.testing.assert_array_equal(group.move(moved[i], back[i]), x)


@pytest.mark.parametrize("group", planar.GROUPS)
def test_motions_are_the_views_of_the_groups(group):
    x = images(2, 4)
    moved = np.stack(list(planar.motions(group).act(x)))
    np.testing.assert_array_equal(moved.swapaxes(0, 1), jax.vmap(lambda image: views(image, group))(jnp.asarray(x)))


def test_order_of_copies_and_any_list():
    """Copy i of image j is at i n + j; a list need not be a group, and the whole data set of images is a batch, too."""
    data = planar.datasets.load_digits()[:3]
    listed = planar.ImageMotions([(0, False), planar.ImageMotion(shift=(0, 1)), (5, True, (-1, 0))], size=8)
    copies, labels = augment_dataset(data, data.labels, listed)
    assert copies.shape == (9, 8, 8, 1)
    assert copies.dtype == np.float32
    np.testing.assert_array_equal(labels, np.tile(data.labels, 3))
    np.testing.assert_array_equal(copies[:3], data.images)
    np.testing.assert_array_equal(copies[3 + 1], np.roll(data.images[1], 1, 1))
    np.testing.assert_array_equal(copies[6 + 2], np.roll(np.rot90(data.images[2][:, ::-1]), -1, 0))
    with pytest.raises(
        ValueError, match=r"3 motions are not a group: the shift by \(0, 1\) \(motion 1\) after the shift"
    ):
        augmented(plain().kernel_fn, listed)


def test_jit():
    x = images(2, 4)
    average = augmented(plain().kernel_fn, planar.motions("C4"))
    np.testing.assert_allclose(jax.jit(lambda x: average(x, None, "ntk"))(x), average(x, None, "ntk"), rtol=1e-13)


C4 = planar.motions("C4")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: planar.motions("C3"), ValueError, "group to be one of C1, C2, C4, D4"),
        (lambda: planar.motions("C4", size=5, stride=2), ValueError, "stride 2 does not divide the size 5"),
        (lambda: planar.motions("C4", stride=2), ValueError, "needs the size"),
        (lambda: planar.motions("C4", size=0), ValueError, "size to be a positive integer"),
        (lambda: planar.ImageMotions([(0, False, (1, 0))]), ValueError, "motion 0 shifts by .* need the size"),
        (lambda: planar.ImageMotions([(0, False), (0.5, False)]), TypeError, "motion 1: expected"),
        (lambda: planar.ImageMotions([(0, False, 1)], size=3), TypeError, "motion 0: expected"),
        (lambda: augmented(plain().kernel_fn, planar.ImageMotions([])), ValueError, "at least one motion"),
        (lambda: augmented(plain().kernel_fn, planar.ImageMotions(C4.motions[:3])), ValueError, "not a group: the turn"),
        (lambda: augmented(plain().kernel_fn, planar.ImageMotions(C4.motions * 2)), ValueError, "is there repeatedly"),
        (lambda: augmented(plain().kernel_fn, planar.motions("C1", size=4))(images(2)), ValueError, "4 x 4 pixels, got"),
        (lambda: augmented(plain().kernel_fn, C4)(images(2)[:, :4]), ValueError, "square"),
        (lambda: augmented(convolutional("C1").kernel_fn, planar.motions("C1", size=5))(images(2)), ValueError,
         'padding "SAME"'),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
