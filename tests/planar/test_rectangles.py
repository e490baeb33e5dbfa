"""Images that are not square, for C1 and C2: kernels against the direct recursion, half turns, finite networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from planar import AvgPool, GroupConv, Lift
from planar.datasets import ImageData
from planar.experiments import compare, draw, image_network
from so3ntk import Dense, Erf, GroupPool, Relu, augmented, empirical, serial
from tests.oracles.images import evaluate, evaluate_field

EPS = np.finfo(np.float64).eps


def images(count, size, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *size, 2))


def half_turned(x):
    return x[:, ::-1, ::-1]


def relative(actual, desired):
    return np.abs(np.asarray(actual) - np.asarray(desired)).max() / np.abs(np.asarray(desired)).max()


#: A nonlinearity on tiles of a rectangle with a border cut off: in test_fields.
NETWORKS = {
    "same": ((4, 6), lambda group: (Lift((3, 3), "SAME", group, b_std=0.3), Relu(), GroupConv((3, 3), "SAME"), Erf())),
    "valid": ((5, 3), lambda group: (Lift((2, 2), "VALID", group), Relu(), GroupConv((2, 2), "VALID", b_std=0.2), Erf())),
    "circular, then everywhere": ((3, 5), lambda group: (
        Lift((3, 3), group=group, W_std=1.2), Relu(), GroupConv((3, 3)), Erf(), GroupConv(None), Erf())),
    "global support": ((4, 3), lambda group: (
        Lift(None, group=group, b_std=0.3), Relu(), GroupConv((3, 3)), Erf(), GroupConv(None), Relu())),
    "tiles, a border cut off": ((5, 7), lambda group: (
        Lift((2, 2), "VALID", group, b_std=0.3), Erf(), AvgPool((2, 2)), GroupConv((1, 1)))),
    "tiles of all motions": ((6, 4), lambda group: (Lift(None, group=group), Relu(), AvgPool((2, 2)), GroupConv((1, 1)), Erf())),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_recursion_on_pixels_and_half_turns(name):
    """C2's kernel is the mean of C1's over both half turns of either image, and does not see them."""
    size, layers = NETWORKS[name]
    x, y = images(1, size), images(1, size, seed=1)
    y = np.concatenate([y, half_turned(y)])
    plain = evaluate(serial(*layers("C1"), GroupPool()), x, y)
    for kernel, other in zip(serial(*layers("C2"), GroupPool()).kernel_fn(x, y), plain, strict=True):
        mean = (other[0, 0] + other[0, 1]) / 2
        assert relative(kernel, [[mean, mean]]) < 200 * EPS  # sums of some thousand terms
        assert np.abs(other[0, 1] / other[0, 0] - 1) > 1e-6


@pytest.mark.parametrize("layers", [
    (Lift((2, 2), "SAME", "C1", b_std=0.3), Erf(), GroupConv((3, 3), "VALID"), Erf()),
    (Lift(None, group="C1"), Erf(), GroupConv(None, b_std=0.2), Erf()),
], ids=["local", "global"])  # fmt: skip
def test_gram_and_diagonal_of_ordinary_networks(layers):
    net, x = serial(*layers, GroupPool(), Dense()), images(3, (4, 6))
    slow = evaluate(net, x)[1]
    assert relative(so3ntk.gram(net, x, progress=False), slow) < 1e-12  # of the tower's polynomial
    assert relative(so3ntk.kernel_diagonal(net, x), np.diag(slow)) < 1e-12
    with pytest.raises(ValueError, match="do not fit each other"):
        net.kernel_fn(x, x.swapaxes(1, 2))


def test_fields_of_global_support():
    """Axes h, rows, columns; local ones are in test_fields."""
    x, net = images(2, (4, 3)), serial(Lift(None, group="C2", b_std=0.3), Relu(), GroupConv(None), Erf())
    for values, slow in zip(net.kernel_fn(x[:1], x[1:])[:2], evaluate_field(net, x[:1], x[1:]), strict=True):
        assert values.shape == (1, 1, 2, 4, 3)
        assert relative(values, slow[..., 0, 0, :, :]) < 100 * EPS


# ------------------------- finite networks; their averages are in tests/finite/test_monte_carlo_images.py


def drawn(net, x):
    return net.init_fn(jax.random.key(0), x.shape)[1]


@pytest.mark.parametrize(("shape", "padding", "group"), [
    (None, "CIRCULAR", "C2"), ((3, 3), "CIRCULAR", "C2"), ((3, 3), "SAME", "C2"), ((2, 2), "VALID", "C1"),
])  # fmt: skip
def test_one_layer_has_the_tangent_kernel_of_any_width(shape, padding, group):
    """It is linear in its weights, so that nothing is random; tiles in place of the pixels before pooling."""
    x, size = images(2, (5, 3) if padding == "VALID" else (4, 6)), 2
    net = serial(Lift(shape, padding, group, width=1, W_std=1.2, b_std=0.3), AvgPool((size, size)), GroupPool())
    found = empirical.ntk(net.apply_fn)(drawn(net, x), x)
    assert relative(found, net.kernel_fn(x, None, "ntk")) < 100 * EPS


@pytest.mark.parametrize(("shape", "padding"), [(None, "CIRCULAR"), ((3, 3), "CIRCULAR"), ((2, 2), "VALID")])
def test_features_move_with_the_image(shape, padding):
    net = serial(Lift(shape, padding, "C2", width=3, b_std=0.3), Relu(), GroupConv(shape, padding, width=2), Relu())
    (x,) = images(1, (4, 5))
    moved = jnp.asarray(np.stack([x, np.rot90(x, 2), np.roll(x, (2, -1), (0, 1))]))
    params = drawn(net, moved)
    still, turned, shifted = np.asarray(jax.jit(net.apply_fn)(params, moved))
    assert still.shape == ((2, 2, 3, 2) if padding == "VALID" else (2, 4, 5, 2))
    tolerance = {"rtol": 0, "atol": 1e-13 * np.abs(still).max()}
    np.testing.assert_allclose(turned, still[::-1, ::-1, ::-1], **tolerance)  # the planes change places, and turn
    assert not np.allclose(turned, still, atol=0.1)
    if padding == "CIRCULAR":
        np.testing.assert_allclose(shifted, np.roll(still, (2, -1), (1, 2)), **tolerance)


# ------------------------------------------------------------------------------------ motions


def test_augmentation_is_the_network_of_the_group():
    """All shifts and half turns of a fully connected network: C2 with filters of global support."""
    x, y = images(2, (2, 3)), images(2, (2, 3), seed=1)
    dense = serial(planar.Flatten(), Dense(b_std=0.3), Erf(), Dense(W_std=1.3))
    group = serial(Lift(None, group="C2", b_std=0.3), Erf(), GroupPool(), Dense(W_std=1.3))
    found = augmented(dense.kernel_fn, planar.motions("C2", size=(2, 3)))(x, y)
    for kernel, expected in zip(found, group.kernel_fn(x, y), strict=True):
        assert relative(kernel, expected) < 100 * EPS


def test_products_of_motions():
    """Reflections with them, which map rectangles to themselves; shifts count modulo each side."""
    elements = [(0, False), (2, False), (0, True), (2, True)]
    group = planar.ImageMotions([(*e, (i, j)) for e in elements for i in range(2) for j in range(3)], size=(2, 3))
    assert group.size == (2, 3)
    assert planar.ImageMotions([(0, False, (2, 3))], size=(2, 3)).motions[0].shift == (0, 0)
    x = images(1, (2, 3))
    moved = [np.asarray(copy) for copy in group.act(x)]
    for i in range(0, len(group), 5):
        products = group.products(i)
        for j in range(len(group)):
            np.testing.assert_array_equal(group.move(moved[j], i), moved[products[j]])


def test_strides():
    found = planar.motions("C1", size=(4, 6), stride=2)
    assert [motion.shift for motion in found.motions] == [(i, j) for i in (0, 2) for j in (0, 2, 4)]


# ------------------------------------------------------------------------------------ refusals

X = images(1, (4, 6))


def kernel(*layers):
    return serial(*layers, GroupPool()).kernel_fn(X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernel(Lift((3, 3), group="C4"), Relu()), "Lift: .* 4 x 6 pixels: the quarter turns of C4 map only squares"),
        (lambda: kernel(Lift(None, group="D4"), Relu()), "the quarter turns of D4 map only squares"),
        (lambda: drawn(serial(Lift(None, group="C4", width=2), GroupPool()), X), "the quarter turns of C4 map only squares"),
        (lambda: kernel(Lift((5, 5), "VALID", "C1"), Relu()), "5 x 5 pixels is larger than the 4 x 6 positions"),
        (lambda: drawn(serial(Lift((5, 5), "SAME", "C1", width=2), GroupPool()), X), "larger than the 4 x 6 positions"),
        (lambda: kernel(Lift((3, 3), group="C1"), AvgPool((4, 4))), "4 x 4 do not tile the 4 x 6 positions"),
        (lambda: kernel(Lift(None, group="C1"), AvgPool((3, 3))), "3 x 3 do not tile the 4 x 6 positions"),
        (lambda: drawn(serial(Lift((3, 3), group="C1", width=2), AvgPool((3, 3))), X), "do not tile the 4 x 6 positions"),
        (lambda: planar.motions("C4").move(X, 0), r"square images, got 4 x 6 pixels: the turn by 90 degrees \(motion 1\)"),
        (lambda: planar.motions("D4", size=(4, 6)), "expected square images, got 4 x 6 pixels: the turn by 90"),
        (lambda: planar.motions("C2", size=(6, 4)).move(X, 0), "images of 6 x 4 pixels, got images of 4 x 6"),
        (lambda: planar.motions("C1", size=(4, 6), stride=3), r"stride 3 does not divide the size \(4, 6\)"),
        (lambda: planar.motions("C1", size=(4, 0)), r"positive integer or two, \(rows, columns\), got \(4, 0\)"),
        (lambda: planar.ImageMotions([], size=(4, 6, 1)),  # pyright: ignore[reportArgumentType]
         "expected size to be a positive integer or two"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_remedy_of_a_list_with_quarter_turns():
    assert [moved.shape for moved in planar.motions("C2").act(X)] == [X.shape] * 2


def test_no_kernel_is_computed_before_a_group_refuses_rectangles():
    data = ImageData(np.zeros((8, 2, 3, 1), np.float32), np.arange(8) % 2, ("a", "b"))
    begun = []
    with pytest.raises(ValueError, match="the quarter turns of C4"):
        compare({group: image_network(group) for group in ("C1", "C4")}, draw(data, [4], 2), report=begun.append)
    assert begun == []
