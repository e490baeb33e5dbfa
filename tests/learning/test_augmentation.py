"""Augmentation is equivariance: kernels averaged over finite groups of rotations, and training on all rotated copies."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import so3ntk
from so3ntk import (
    Activation,
    Dense,
    Erf,
    ExplicitGrid,
    Flatten,
    GroupConv,
    GroupPool,
    Lift,
    Monomial,
    ProductGrid,
    Relu,
    augment_dataset,
    augmented,
    serial,
)
from so3ntk.engine.network import Kernels
from so3ntk.learning.augmentation import Rotations, inverses
from so3ntk.learning.predict import gradient_flow
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.rotation_mean import rotation_mean

EPS = np.finfo(np.float64).eps
OCTAHEDRAL, ICOSAHEDRAL, TURNS = (Rotation.create_group(name) for name in ("O", "I", "C4"))
DIHEDRAL = Rotation.create_group("D3")  # six, the fewest of which not all commute
TIMES = [0.5, 5.0, 100.0, math.inf]


def signals(count, bandlimit=3, channels=2, seed=0, scale=1.0):
    values = np.random.default_rng(seed).normal(size=(count, bandlimit**2, channels))
    return so3ntk.SphereSignal(scale * values, bandlimit)


def plain(activation: type[Activation] = Erf, tail=()):
    return serial(Flatten(), Dense(W_std=1.2, b_std=0.3), activation(), Dense(W_std=1.3, b_std=0.1), activation(),
                  Dense(b_std=0.2), *tail)  # fmt: skip


def equivariant(quadrature, activation: type[Activation] = Erf, tail=()):
    """The same network with filters of global support; rtol 0.5: the finite group is meant, not SO(3)."""
    return serial(Lift(W_std=1.2, b_std=0.3), activation(), GroupConv(W_std=1.3, b_std=0.1), activation(),
                  GroupPool(), Dense(b_std=0.2), *tail, quadrature=quadrature, rtol=0.5)  # fmt: skip


def relative(actual, desired):
    return np.abs(np.asarray(actual) - np.asarray(desired)).max() / np.abs(np.asarray(desired)).max()


def flows(kernel_fn, x, y, others, t=TIMES, **options):
    """Predictions (t, m, k) at the signals ``others``, and the condition number of the training matrix."""
    train = kernel_fn(x, None, "ntk")
    values = np.linalg.eigvalsh(train)
    return gradient_flow(train, y, kernel_fn(others, x, "ntk"), t, **options), values[-1] / values[0]


def off_the_manifold(x):
    """The training signals themselves; signals like them; one rotated; a much larger one; one component alone."""
    spike = so3ntk.SphereSignal(jnp.zeros((1, *x.shape[1:])).at[0, 3].set(1.0), x.bandlimit)
    rotated = so3ntk.rotate(x[0], so3ntk.random_rotations(1, 5))
    large = signals(1, x.bandlimit, seed=2, scale=30.0)
    return so3ntk.concatenate([x, signals(2, x.bandlimit, seed=1), rotated, large, spike])


def apart(found, expected):
    """The largest difference of predictions (t, m, k), relative to the largest prediction at the same signal."""
    return np.max(np.abs(found - expected).max(axis=(0, 2)) / np.abs(expected).max(axis=(0, 2)))


def test_against_explicit_rotations():
    """In NumPy: every signal rotated, every rotation through the recursion of a fully connected network."""
    x, y = signals(3), signals(2, seed=1)
    layers = [(1.2, 0.3), "relu", (1.3, 0.1), "relu", (1.0, 0.2)]
    f, g, matrices = np.asarray(x.coefficients), np.asarray(y.coefficients), TURNS.as_matrix()
    expected = rotation_mean(f, g, matrices, np.full(4, 0.25), layers)
    found = augmented(plain(Relu).kernel_fn, TURNS)(x, y)
    assert isinstance(found, Kernels)
    for kernel, slow in zip(found, expected, strict=True):
        assert relative(kernel, slow) < 100 * EPS


def test_the_average_is_the_kernel_of_the_group_network():
    """Of a batch with itself without a kink: ``test_molecules_turn_as_a_whole``."""
    x, y = signals(3), signals(3, seed=1)
    average = augmented(plain(Relu).kernel_fn, DIHEDRAL)
    net = equivariant(ExplicitGrid(DIHEDRAL), Relu)
    for kernel, expected in zip(average(x, y), net.kernel_fn(x, y), strict=True):
        assert relative(kernel, expected) < 100 * EPS
    for kernel, expected in zip(average(x), net.kernel_fn(x), strict=True):  # its diagonal: a kink, at rounded angles
        assert relative(kernel, expected) < 4 * EPS**0.5


def test_training_on_rotated_copies_is_training_the_group_network():
    """The theorem, at four times, on and off the manifold, with two outputs."""
    x, y = signals(2), np.random.default_rng(3).normal(size=(2, 2))
    copies, targets = augment_dataset(x, y, DIHEDRAL)
    others = off_the_manifold(x)
    found, condition = flows(plain().kernel_fn, copies, targets, others)
    expected, _ = flows(equivariant(ExplicitGrid(DIHEDRAL)).kernel_fn, x, y, others)
    without, _ = flows(plain().kernel_fn, x, y, others)
    assert apart(found, expected) < 10 * EPS * condition < 1e-9  # a solution is as good as the matrix's condition
    np.testing.assert_allclose(found[-1, :2], y, rtol=0, atol=10 * EPS * condition)
    assert apart(without[:, 2:4], expected[:, 2:4]) > 0.05  # copies do change the plain network
    assert relative(expected[0], expected[1]) > 0.05  # and nothing has converged by the first time


def test_ridge_counts_copies():
    """|G| times as much on the copies; diag_reg is relative to the diagonals, whose means differ besides."""
    x, y = signals(2), np.random.default_rng(3).normal(size=(2, 1))
    copies, targets = augment_dataset(x, y, TURNS)
    base, mean = plain().kernel_fn, augmented(plain().kernel_fn, TURNS)
    diagonals = [np.trace(kernel_fn(x, None, "ntk")) for kernel_fn in (base, mean)]
    others = off_the_manifold(x)
    expected, _ = flows(mean, x, y, others, diag_reg=0.01)
    found, condition = flows(base, copies, targets, others, diag_reg=4 * 0.01 * diagonals[1] / diagonals[0])
    assert apart(found, expected) < 10 * EPS * condition < 1e-9
    wrong, _ = flows(base, copies, targets, others, diag_reg=0.01)
    assert apart(wrong, expected) > 1e-3


@pytest.mark.slow
def test_sixty_rotations_are_all_of_them_for_low_degrees():
    """Squares of signals of degree < 3 have kernels of degree < 5 in the rotation, whose mean over SO(3) is exact on the
    icosahedral group (its first invariant is of degree 6), and on a product grid. On the octahedral it is not (4)."""
    net = serial(Lift(b_std=0.3), Monomial(2), GroupPool(), Dense(b_std=0.2), quadrature=ProductGrid(12))
    base = serial(Flatten(), Dense(b_std=0.3), Monomial(2), Dense(b_std=0.2))
    x, y = signals(2), np.random.default_rng(3).normal(size=(2, 2))
    others, times = off_the_manifold(x), TIMES[:3]  # on copies the kernel is singular: polynomials of degree 2
    expected, _ = flows(net.kernel_fn, x, y, others, times)
    errors = [apart(flows(base.kernel_fn, *augment_dataset(x, y, group), others, times)[0], expected)
              for group in (ICOSAHEDRAL, OCTAHEDRAL)]  # fmt: skip
    assert errors[0] < 1e5 * EPS  # e^{-t K} of eigenvalues that are zero to rounding, times large signals
    assert errors[1] > 1e-3


@pytest.mark.slow
def test_more_rotations_approach_the_network_of_so3():
    """Compared: training on 24 and on 60 rotated copies of each signal, and the network averaged over all of SO(3).

    Predictions differ by the error of the group as a quadrature of SO(3): that of the kernels, times their condition.
    """
    x, y = signals(3, 2), np.random.default_rng(3).normal(size=(3, 1))
    others, net = off_the_manifold(x), equivariant(ProductGrid(16))
    expected, condition = flows(net.kernel_fn, x, y, others)
    errors = []
    for group in (OCTAHEDRAL, ICOSAHEDRAL):
        found, _ = flows(plain().kernel_fn, *augment_dataset(x, y, group), others)
        kernel = relative(augmented(plain().kernel_fn, group)(x, None, "ntk"), net.kernel_fn(x, None, "ntk"))
        errors.append(apart(found, expected))
        assert errors[-1] < 10 * condition * kernel
    assert errors[1] < 0.2 * errors[0]


def test_a_batch_with_itself():
    """Symmetric to the bit, with an exact diagonal term at the identity; half of the motions give the whole mean."""
    x = signals(4)
    shuffled = TURNS.as_matrix()[[2, 0, 3, 1]]
    for group in (DIHEDRAL, shuffled):
        average = augmented(plain(Relu).kernel_fn, group)
        alone = average(x)
        for kernel, other in zip(alone, average(x, x), strict=True):
            np.testing.assert_array_equal(kernel, kernel.T)
            assert relative(kernel, other) < 100 * EPS
        np.testing.assert_array_equal(average(x, None, "ntk"), alone.ntk)
        assert average(x, None, ["nngp"]).ntk is None
    assert average(signals(4)[:0], x, "ntk").shape == (0, 4)
    gram = functools.partial(so3ntk.gram, plain(Relu), progress=False)
    assert relative(augmented(gram, TURNS)(x, None, "ntk"), alone.ntk) < 100 * EPS


def test_subgroups_between_none_and_all():
    """The mean over a subgroup is invariant under its motions and no others; over one motion it is the kernel itself."""
    x, y = signals(2), signals(2, seed=1)
    base = plain().kernel_fn
    average = augmented(base, TURNS)
    turned = [average(so3ntk.rotate(x, r), y, "ntk") for r in (TURNS[1], OCTAHEDRAL[20])]
    assert relative(turned[0], average(x, y, "ntk")) < 100 * EPS
    assert relative(turned[1], average(x, y, "ntk")) > 1e-3
    np.testing.assert_array_equal(augmented(base, np.eye(3))(x, y, "ntk"), base(x, y, "ntk"))
    with pytest.raises(ValueError, match="without preferred direction"):  # C4 is not a normal subgroup: its axis is one
        augmented(average, ICOSAHEDRAL)(x, y, "ntk")


def test_products():
    """The table of products says what moving twice does; inverses move back."""
    group, x = Rotations(OCTAHEDRAL), signals(1)
    back, identity = inverses(group, "test")
    np.testing.assert_allclose(OCTAHEDRAL[identity].as_matrix(), np.eye(3), atol=8 * EPS)
    for i in range(0, 24, 5):
        products, restored = group.products(i), group.move(group.move(x, back[i]), i)
        assert relative(restored.coefficients, x.coefficients) < 100 * EPS
        for j in range(0, 24, 7):
            twice, once = group.move(group.move(x, j), i), group.move(x, products[j])
            assert relative(twice.coefficients, once.coefficients) < 100 * EPS


def test_molecules_turn_as_a_whole():
    molecule, elements = [0, 0, 0, 1, 1], [6, 1, 1, 8, 1]
    envs = Environments(signals(5), molecule, elements)
    tail = (AtomSum(match_species=True),)
    found = augmented(plain(tail=tail).kernel_fn, DIHEDRAL)(envs)
    for kernel, expected in zip(found, equivariant(ExplicitGrid(DIHEDRAL), tail=tail).kernel_fn(envs), strict=True):
        assert relative(kernel, expected) < 100 * EPS
    copies, targets = augment_dataset(envs, [1.0, 2.0], DIHEDRAL)
    assert len(copies) == 12
    np.testing.assert_array_equal(copies.numbers, np.tile(elements, 6))
    np.testing.assert_array_equal(targets, np.tile([1.0, 2.0], 6))


def test_order_of_copies():
    """Copy i of signal j is at i n + j, for any list; targets keep their kind and shape."""
    x, y = signals(3), jnp.arange(6.0).reshape(3, 2)
    rotations = Rotation.concatenate([Rotation.identity(), so3ntk.random_rotations(2, 4)])
    copies, targets = augment_dataset(x, y, rotations)
    np.testing.assert_array_equal(copies.coefficients[:3], x.coefficients)
    np.testing.assert_array_equal(copies[3 * 2 + 1].coefficients, so3ntk.rotate(x[1], rotations[2]).coefficients)
    assert isinstance(targets, jax.Array)
    np.testing.assert_array_equal(targets[3 * 2 + 1], y[1])


@pytest.mark.slow
def test_single_precision_jit_and_derivatives():
    x, y = signals(2), signals(2, seed=1)
    direction, step = signals(2, seed=2).coefficients, 1e-5
    average = augmented(plain().kernel_fn, TURNS)
    np.testing.assert_allclose(jax.jit(lambda x: average(x, None, "ntk"))(x), average(x, None, "ntk"), rtol=1e-13)
    single = [so3ntk.SphereSignal(s.coefficients.astype(np.float32), 3) for s in (x, y)]
    kernel = average(*single, "ntk")
    assert kernel.dtype == np.float32
    assert relative(kernel, average(x, y, "ntk")) < 100 * np.finfo(np.float32).eps

    @jax.jit
    def value_and_slopes(W_std, coefficients):
        def value(W_std, coefficients):
            net = serial(Flatten(), Dense(W_std=W_std), Erf(), Dense())
            return jnp.sum(augmented(net.kernel_fn, TURNS)(so3ntk.SphereSignal(coefficients, 3), y, "ntk"))

        return jax.value_and_grad(value, argnums=(0, 1))(W_std, coefficients)

    def difference(width, along):
        ahead, behind = (value_and_slopes(1.1 + sign * width, x.coefficients + sign * along)[0] for sign in (1, -1))
        return (ahead - behind) / (2 * step)

    by_width, by_signal = value_and_slopes(1.1, x.coefficients)[1]
    np.testing.assert_allclose(by_width, difference(step, 0.0), rtol=1e-7)  # eps / step, and the step's square
    np.testing.assert_allclose(np.vdot(by_signal, direction), difference(0.0, step * direction), rtol=1e-7)


def test_why_a_list_that_is_no_group_is_refused():
    """The mean over four random rotations is far from symmetric, and predicts otherwise than training on the copies."""
    x, y, rotations = signals(3), np.random.default_rng(3).normal(size=3), so3ntk.random_rotations(4, 7)
    base, test = plain().kernel_fn, signals(4, seed=1)
    mean = lambda a, b: np.mean([base(a, so3ntk.rotate(b, r), "ntk") for r in rotations], axis=0)  # noqa: E731
    train = mean(x, x)
    assert relative(train.T, train) > 0.01
    copies, targets = augment_dataset(x, y, rotations)
    found = gradient_flow(base(copies, None, "ntk"), targets, base(test, copies, "ntk"))
    assert relative(mean(test, x) @ np.linalg.solve(train, y), found) > 0.01
    with pytest.raises(ValueError, match=r"4 motions are not a group: the rotation by .* \(motion 0\) after"):
        augmented(base, rotations)


def directed(x1, x2=None, get="ntk"):
    """A kernel that looks at one component alone."""
    rows = [np.asarray(x.coefficients)[:, 1] for x in (x1, x1 if x2 is None else x2)]
    return rows[0] @ rows[1].T


BASE = plain().kernel_fn


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: augmented(BASE, TURNS[:3]), ValueError, "not a group: .*90 degrees.*180 degrees.*is not among them"),
        (lambda: augmented(BASE, TURNS[1:]), ValueError, "not a group"),
        (lambda: augmented(BASE, TURNS.as_matrix()[[0, 1, 2, 3, 1]]), ValueError, "90 degrees .* is there repeatedly"),
        (lambda: augmented(BASE, TURNS[:0]), ValueError, "at least one motion"),
        (lambda: augmented(BASE, "C4"), TypeError, r"planar.motions\(\"C4\"\), got str"),
        (lambda: augmented(BASE, ProductGrid(4)), TypeError, "got ProductGrid"),
        (lambda: augmented(BASE, -np.eye(3)), ValueError, "reflections"),
        (lambda: augmented(BASE, TURNS)(np.ones((2, 9))), TypeError, "rotations act on a SphereSignal"),
        (lambda: augmented(directed, TURNS)(signals(2), None, "ntk"), ValueError, "without preferred direction"),
        (lambda: augmented(BASE, TURNS)(signals(2), None, "kernel"), ValueError, "get: expected"),
        (lambda: augmented(serial(Lift(), Relu(), quadrature=ProductGrid(4)).kernel_fn, TURNS)(signals(2)), ValueError,
         "GroupPool"),
        (lambda: augment_dataset(signals(2), [1.0], TURNS), ValueError, "a target for each of the 2 signals"),
        (lambda: augment_dataset(signals(2), 1.0, TURNS), ValueError, "a target for each of the 2 signals"),
    ],
)  # fmt: skip
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
