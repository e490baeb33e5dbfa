"""Features before pooling move with the input: exactly where motions map the grid to itself, else degree by degree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import planar
from planar.groups import GROUPS
from so3ntk import Dense, Erf, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial
from tests.finite.cases import images, sphere_signals
from tests.oracles.harmonics import rotated, wigner

ROTATIONS = Rotation.random(20, random_state=0).as_matrix()


def features(net, x, rotations):
    """Features (n, R, C) of one signal, and of it rotated by each matrix."""
    moved = rotated(np.asarray(x.coefficients), rotations)[:, 0]
    both = SphereSignal(jnp.concatenate([x.coefficients, jnp.asarray(moved)]), x.bandlimit)
    return np.asarray(jax.jit(lambda key, z: net.apply_fn(net.init_fn(key, both.shape)[1], z))(jax.random.key(0), both))


def block(values, grid, degree):
    """Coefficients (n, 2l + 1, 2l + 1, C) of sampled features by quadrature."""
    table = wigner(grid.rotations.as_matrix(), degree)
    return (2 * degree + 1) * np.einsum("nrc,r,rij->nijc", values, grid.weights, table, optimize=True)


def errors(layers, n, degrees):
    """For each degree, the largest deviation from h(s^-1 g), whose coefficients are D(s) h, relative to the largest."""
    grid = ProductGrid(n)
    values = features(serial(*layers, quadrature=grid), sphere_signals(3, 1), ROTATIONS)
    found = []
    for degree in degrees:
        still, *moved = block(values, grid, degree)
        expected = np.einsum("skm,mnc->sknc", wigner(ROTATIONS, degree), still)
        found.append(np.abs(np.stack(moved) - expected).max() / np.abs(still).max())
    return np.array(found)


def test_linear_layers_commute_with_rotations():
    spectrum = np.array([1, 2.0, 0.5])
    layers = [Lift(width=4, variances=spectrum), GroupConv(width=3, b_std=0.3), GroupConv(width=2, variances=spectrum)]
    assert (errors(layers, 8, (1, 2)) < 1e-12).all()


def test_the_spectrum_is_a_variance():
    """Four times the variance of every degree is twice the features, degree by degree."""
    grid, x = ProductGrid(8), sphere_signals(3, 1)
    spectra = jnp.array([[1.0, 2.0, 0.5], [4.0, 2.0, 0.5], [1.0, 8.0, 0.5], [1.0, 2.0, 2.0]])
    networks = [lambda v: (Lift(width=3, variances=v),), lambda v: (Lift(width=3), GroupConv(width=2, variances=v))]

    @jax.jit
    def outputs(key):
        def drawn(layers):
            net = serial(*layers, quadrature=grid)
            return net.apply_fn(net.init_fn(key, x.shape)[1], x)

        return [jax.vmap(lambda v, make=make: drawn(make(v)))(spectra) for make in networks]

    for plain, *others in outputs(jax.random.key(0)):
        np.testing.assert_allclose(sum(other - plain for other in others), plain, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_nonlinear_layers_commute_within_aliasing():
    layers = [Lift(width=4, b_std=0.3), Relu(), GroupConv(width=4, bandlimit=3), Erf()]
    coarse, fine = (errors(layers, n, (1, 2)) for n in (8, 16))
    assert (coarse < 0.1).all()  # measured: 0.03 and 0.06 at l = 1 and 2; 0.003 and 0.006 on the finer grid
    assert (fine < 0.01).all()
    assert (fine < coarse / 4).all()


def test_rotations_of_the_grid_permute():
    """Eighths of a turn about z, and half turns."""
    grid = ProductGrid(8)
    net = serial(Lift(width=3, b_std=0.3), Relu(), GroupConv(width=3), Relu(), quadrature=grid)
    turns = Rotation.concatenate([Rotation.from_euler("Z", 2 * np.pi / 8 * np.arange(1, 8)[:, None]),
                                  Rotation.from_euler("YZ", [[np.pi, 0], [np.pi, np.pi]])])  # fmt: skip
    still, *moved = features(net, sphere_signals(3, 1), turns.as_matrix())
    for turn, found in zip(turns, moved, strict=True):
        source = (turn.inv() * grid.rotations).as_matrix().reshape(-1, 9)
        distance = ((source[:, None] - grid.rotations.as_matrix().reshape(1, -1, 9)) ** 2).sum(axis=2)
        assert distance.min(axis=1).max() < 1e-20
        assert not np.allclose(found, still, atol=0.1)
        # Relu's kink does not amplify roundings, which sums of a thousand terms bring.
        expected = still[distance.argmin(axis=1)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(still).max())


def turned(values, group, element):
    """Features (h, x, y, c) of the input turned by an element s: the plane of s^-1 h, turned by s."""
    turns, mirrored = GROUPS[group][element]

    def act(plane):
        return np.rot90(plane[:, ::-1] if mirrored else plane, turns)

    square = np.arange(4).reshape(2, 2)
    views = [np.rot90(square[:, ::-1] if m else square, k) for k, m in GROUPS[group]]
    places = [next(i for i, view in enumerate(views) if (view == act(other)).all()) for other in views]
    out = np.empty_like(values)
    for source, place in enumerate(places):
        out[place] = act(values[source])
    return out


@pytest.mark.parametrize(("group", "size", "padding"), [
    ("C4", 3, "CIRCULAR"), ("D4", 2, "VALID"), ("D4", None, "CIRCULAR"), ("C4", 3, "SAME"),
])  # fmt: skip
def test_turned_images(group, size, padding):
    shape = size and (size, size)
    net = serial(planar.Lift(shape, padding, group, width=3, b_std=0.3), Relu(),
                 planar.GroupConv(shape, padding, width=3), Relu())  # fmt: skip
    x = images(1, 6)
    moves = [np.rot90(np.asarray(x)[0][:, ::-1] if m else np.asarray(x)[0], k) for k, m in GROUPS[group]]
    moves.append(np.roll(np.asarray(x)[0], (2, -1), (0, 1)))
    draw = jax.jit(lambda key, z: net.apply_fn(net.init_fn(key, x.shape)[1], z))
    *values, shifted = np.asarray(draw(jax.random.key(0), jnp.asarray(np.stack(moves))))
    for element, found in enumerate(values):
        expected = turned(values[0], group, element)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
        assert element == 0 or not np.allclose(found, values[0], atol=0.1)
    if padding == "CIRCULAR":
        np.testing.assert_allclose(shifted, np.roll(values[0], (2, -1), (1, 2)), rtol=0, atol=1e-13 * np.max(values))


def test_tiles_turn_with_the_image():
    net, x = serial(planar.Lift((3, 3), width=3), Relu(), planar.AvgPool((2, 2))), images(1, 6)
    params = net.init_fn(jax.random.key(0), x.shape)[1]
    still, moved = (np.asarray(net.apply_fn(params, z))[0] for z in (x, jnp.rot90(x, axes=(1, 2))))
    np.testing.assert_allclose(moved, turned(still, "C4", 1), rtol=0, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(("net", "x"), [
    (serial(Lift(width=3, b_std=0.1), Erf(), GroupConv(width=3, bandlimit=2), GroupPool(), Dense(2),
            quadrature=ProductGrid(4)), sphere_signals(2, 2)),
    (serial(planar.Lift((3, 3), width=3, b_std=0.1), Erf(), planar.GroupConv((3, 3), width=3), GroupPool(), Dense(2)),
     images(2)),
], ids=["sphere", "images"])  # fmt: skip
def test_transformations(net, x):
    """vmap over an ensemble, gradients in parameters and input against differences, all under jit."""

    @jax.jit
    def evaluate(keys):
        def member(key):
            point = net.init_fn(key, x.shape)[1], x
            step = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape), point)

            def total(h):
                return jnp.sum(net.apply_fn(*jax.tree.map(lambda u, v: u + h * v, point, step)) ** 2)

            gradient = jax.grad(lambda p: jnp.sum(net.apply_fn(*p) ** 2))(point)
            by_gradient = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, step)))
            return by_gradient, jax.vmap(total)(jnp.array([-1e-5, 0, 1e-5]))

        return jax.vmap(member)(keys)

    keys = jax.random.split(jax.random.key(0), 2)
    slopes, totals = map(np.asarray, evaluate(keys))
    alone = jax.jit(lambda key: net.apply_fn(net.init_fn(key, x.shape)[1], x))(keys[1])
    np.testing.assert_allclose(totals[1, 1], np.sum(np.square(alone)), rtol=1e-12)
    np.testing.assert_allclose((totals[:, 2] - totals[:, 0]) / 2e-5, slopes, rtol=1e-6)  # h^2 and eps / h
    assert np.abs(slopes).min() > 1e-3
