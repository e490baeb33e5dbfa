"""Energies and forces: covariances against automatic differentiation in the positions, and what forces must obey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as g2

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    GroupConv,
    GroupPool,
    Lift,
    Monomial,
    ProductGrid,
    Relu,
    SphereSignal,
    random_rotations,
    serial,
)
from so3ntk.engine.evaluation.evaluation import Whole
from so3ntk.molecules import AtomSum, Environments, Shells, environment_coefficients, environments
from so3ntk.molecules.forces.displacements import moving_environments
from so3ntk.molecules.forces.kernels import Side, energy_force_gram
from so3ntk.molecules.forces.pair_derivatives import PairDerivatives, TowerDerivatives, pair_derivatives
from so3ntk.molecules.neighbours import Edges
from so3ntk.sphere.transforms.grid import Grid

SETTINGS = {"species": ("O", "H", "C", "N"), "powers": (1.0, 3.0), "bandlimit": 3}


def shaken(*names, seed=0):
    rng = np.random.default_rng(seed)
    atoms = [g2(name) for name in names]
    for molecule in atoms:
        molecule.positions += 0.1 * rng.normal(size=molecule.positions.shape)
    return atoms


def network(*layers, n=8, match_species=True, **lift):
    lift = {"W_std": 0.3, "b_std": 0.5, **lift}
    last = (GroupPool(), Dense(), AtomSum(match_species=match_species))
    return serial(Lift(**lift), *layers, *last, quadrature=ProductGrid(n), rtol=0.5)


def molecular_kernel(net, atoms, get, dtype=np.float64, **settings):
    """The kernels of two copies of a batch of molecules, as a function of both sets of positions: the oracle."""
    numbers = np.concatenate([a.numbers for a in atoms])
    molecule = np.repeat(np.arange(len(atoms)), [len(a) for a in atoms])
    settings = {**SETTINGS, **settings}

    def batch(positions):
        coefficients = environment_coefficients(positions, numbers, molecule, **settings)
        return Environments(SphereSignal(coefficients, settings["bandlimit"]), molecule, numbers)

    def kernel(x, y):
        return net.kernel_fn(batch(x), batch(y), get)

    return kernel, jnp.asarray(np.concatenate([a.positions for a in atoms]), dtype)


# --- derivatives of kernels in the positions


@pytest.mark.slow
def test_derivatives_are_finite_where_molecules_coincide():
    """That each activation's are, its own tests say; here a kinked one meets signals that coincide."""
    atoms = [*shaken("H2O"), Atoms("H", [[0.0, 0, 0]])]  # an atom alone has the zero signal
    net = network(Relu(), n=4, b_std=None, match_species=False)
    kernel, x = molecular_kernel(net, atoms, "ntk", np.float32, bandlimit=2)
    gradient = jax.grad(lambda x, y: kernel(x, y).sum(), argnums=(0, 1))
    first, second = jax.jit(lambda x: jax.jvp(lambda y: gradient(x, y), (x,), (jnp.ones_like(x),)))(x)
    assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves((first, second)))


# --- energy and force covariances


def test_tangents_are_the_derivatives_of_the_coefficients():
    cell = Atoms("OH2", [[0.0, 0, 0], [0.9, 0.2, 0], [-0.3, 0.9, 0.1]], cell=[2.5, 2.6, 2.7], pbc=True)
    shells = {"species": ("H", "C", "N", "O"), "bandlimit": 3, "radial": Shells(3, cutoff=3.0, width=0.1)}
    for atoms, extra in ((shaken("CH3OH", "HCN"), {}), ([cell], {"cutoff": 3.0, "length": 1.5}), ([cell], shells)):
        settings = {**SETTINGS, **extra} if extra is not shells else shells
        moving = moving_environments(atoms, settings)
        numbers, molecule = moving.environments.numbers, moving.environments.molecule
        edges = moving.edges if extra else None
        positions = np.concatenate([a.positions for a in atoms])
        strained = moving.periodic.any()
        jacobian, slopes = _slopes(numbers, molecule, edges, settings, positions)
        every = np.arange(len(molecule))
        first = (np.cumsum(moving.sizes) - moving.sizes)[molecule]
        expected = np.zeros((*jacobian.shape[:3], 24))
        for i, start in zip(every, first, strict=True):
            own = jacobian[i][:, :, start : start + moving.sizes[molecule[i]]]
            expected[i, ..., : own[0, 0].size] = own.reshape(*own.shape[:2], -1)
        scale = np.abs(jacobian).max()
        if strained:
            expected[..., 9:15] = slopes
        np.testing.assert_allclose(moving.tangents(every, 24), expected, rtol=0, atol=1e-12 * scale)
        motion = np.random.default_rng(0).normal(size=len(moving.strains))
        velocities = motion[~moving.strains].reshape(-1, 3)
        along = np.einsum("ipcsk,sk->ipc", jacobian, velocities)
        along += expected[..., 9:15] @ motion[moving.strains] if strained else 0.0
        np.testing.assert_allclose(moving.along(every, motion), along, rtol=0, atol=1e-11 * scale)
        gradients = np.random.default_rng(1).normal(size=jacobian.shape[:3])
        slopes = np.concatenate([
            np.einsum("ipc,ipcx->x", gradients[molecule == m], expected[molecule == m])[:size]
            for m, size in enumerate(moving.coordinates)
        ])  # fmt: skip
        np.testing.assert_allclose(moving.forces(gradients), -slopes, rtol=0, atol=1e-11 * np.abs(slopes).max())


def _slopes(numbers, molecule, edges, settings, positions):
    """In positions, and under (1 + epsilon) with the cell: automatic differentiation in all nine entries; in the order of Voigt."""

    def coefficients(positions, epsilon):
        grown = jnp.eye(3) + epsilon
        moved = None if edges is None else Edges(edges.centre, edges.neighbour, np.asarray(edges.offsets) @ grown.T)
        return environment_coefficients(positions @ grown.T, numbers, molecule, edges=moved, **settings)

    both = jax.jit(jax.jacfwd(coefficients, argnums=(0, 1)))
    jacobian, slopes = map(np.asarray, both(positions, np.zeros((3, 3))))
    symmetric = (slopes + np.swapaxes(slopes, -1, -2)) / 2
    return jacobian, symmetric[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


#: With how many directions: few take another way (``FORM_HESSIAN``), whatever the layers.
CLOSED = {
    "two layers": (lambda: network(Erf(), GroupConv(b_std=0.2), Monomial(2), n=4), "ntk", 2),
    "O3, nngp, weights": (lambda: network(Monomial(3), n=4, bandlimit=2, variances=(1.0, 0.5), channel_weights=(1.0, 0.2),
                                          group="O3"), "nngp", 17),
    "standard": (lambda: serial(Lift(width=7, parametrization="standard", W_std=0.3, b_std=0.5), Erf(), GroupPool(),
                                AtomSum(), quadrature=so3ntk.ExplicitGrid(random_rotations(40, seed=0))), "ntk", 17),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_equals_automatic_differentiation(name):
    make, kernel, directions = CLOSED[name]
    net, rng = make(), np.random.default_rng(2)
    a, b, db = (rng.normal(size=s) for s in ((9, 2), (3, 9, 2), (3, 9, 2, directions)))
    grid = Grid.load(net.quadrature, net.layers[0].kept_bandlimit(3), np.float64)
    evaluation = Whole(net.layers[:-1], grid)
    closed = pair_derivatives(evaluation, kernel)
    assert isinstance(closed, TowerDerivatives)
    found, expected = jax.jit(lambda *x: [closed(*x), PairDerivatives(evaluation, kernel)(*x)])(a, b, db)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-12 * np.abs(y).max())


#: Of these the first alone tells elements apart: each kind of atoms is a program of its own.
GENERAL = {
    "tower": lambda: network(Erf(), n=4),
    "all atoms alike": lambda: network(Erf(), n=4, match_species=False),
    "filters with a spectrum, and a layer after pooling": lambda: serial(
        Lift(W_std=0.3, b_std=0.5), GroupConv(bandlimit=2, variances=(1.0, 0.4)), Monomial(2), GroupPool(), Dense(), Erf(), AtomSum(),
        quadrature=ProductGrid(4), rtol=0.5),
    "fully connected": lambda: serial(so3ntk.Flatten(), Dense(W_std=0.3, b_std=0.5), Erf(), Dense(), AtomSum()),
}  # fmt: skip


@pytest.mark.parametrize("name", GENERAL)
def test_covariances_are_derivatives_in_the_positions(name):
    """Of each pair of molecules, along velocities of both: forward over forward mode, which compiles least."""
    net, atoms = GENERAL[name](), shaken("H2O", "H2")
    settings = {**SETTINGS, "species": ("O", "H"), "bandlimit": 2}
    moving = moving_environments(atoms, settings)
    gram = energy_force_gram(net, Side(moving), None, "ntk", progress=False)
    kernel, x = molecular_kernel(net, atoms, "ntk", **settings)

    @jax.jit
    def along(v, w):
        in_second = lambda first: jax.jvp(lambda second: kernel(first, second), (x,), (w,))  # noqa: E731
        (value, slope), (_, curvature) = jax.jvp(in_second, (x,), (v,))
        return value, slope, curvature

    owner = np.repeat(np.arange(2), [9, 6]) == np.arange(2)[:, None]
    for velocities in np.random.default_rng(1).normal(size=(3, 2, 5, 3)):  # a wrong entry shows along any of them
        value, slope, curvature = map(np.asarray, along(*velocities))
        v, w = (owner * a.ravel() for a in velocities)
        np.testing.assert_allclose(gram[:2, :2], value, rtol=1e-11)
        np.testing.assert_allclose(gram[:2, 2:] @ w.T, -slope, rtol=0, atol=1e-11 * np.abs(slope).max())
        np.testing.assert_allclose(v @ gram[2:, 2:] @ w.T, curvature, rtol=0, atol=1e-11 * np.abs(curvature).max())
    np.testing.assert_array_equal(gram, gram.T)


def test_towers_alone_have_a_closed_form():
    """A layer after pooling is none of the tower, though what comes before it collapses."""
    grid = Grid.load(ProductGrid(4), 3, np.float64)
    for layers, closed in (((Lift(), Erf(), GroupPool(), Erf()), False), ((Lift(), Erf(), GroupPool(), Dense()), True)):
        assert isinstance(pair_derivatives(Whole(layers, grid), "ntk"), TowerDerivatives) == closed


#: Central differences with an error of step^4.
STENCIL, SLOPE, STEP = (-2, -1, 1, 2), np.array([1, -8, 8, -1]) / 12, 3e-3


def moved_along(molecule, atom, axis):
    """Copies, one for each point of the stencil."""
    copies = [molecule.copy() for _ in STENCIL]
    for shift, copy in zip(STENCIL, copies, strict=True):
        copy.positions[atom, axis] += shift * STEP
    return copies


def test_local_filters_have_forces():
    """Against differences of energies: of the mean of both orders, since positions are those of the first signal."""
    net = serial(Lift(support=1.5, W_std=0.3, b_std=0.5), Monomial(2), GroupPool(), AtomSum(), rtol=0.5,
                 quadrature=so3ntk.LocalGrid(ProductGrid(4), so3ntk.SphereGrid(4)))  # fmt: skip
    atoms = shaken("HF", "HF", seed=3)
    settings = {**SETTINGS, "species": ("F", "H"), "bandlimit": 2}
    gram = energy_force_gram(net, Side(moving_environments(atoms, settings)), None, "nngp", progress=False)
    moved = [moved_along(molecule, atom, axis) for molecule in atoms for atom in range(2) for axis in range(3)]
    columns = environments([*atoms, *(copy for copies in moved for copy in copies)], **settings)
    for atom, axis in ((0, 0), (1, 2)):
        rows = environments(moved_along(atoms[0], atom, axis), **settings)
        kernel = (net.kernel_fn(rows, columns, "nngp") + net.kernel_fn(columns, rows, "nngp").T) / 2
        slope = SLOPE @ np.asarray(kernel) / -STEP
        expected = np.concatenate([slope[:2], slope[2:].reshape(-1, len(STENCIL)) @ SLOPE / -STEP])
        np.testing.assert_allclose(gram[2 + 3 * atom + axis], expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_covariances_do_not_depend_on_batches_and_are_positive(monkeypatch):
    atoms = [*shaken("NH3", "H2"), *shaken("NH3"), Atoms("N", [[0.0, 0, 0]])]  # a copy, and an atom alone
    moving, net = moving_environments(atoms, {**SETTINGS, "bandlimit": 2}), network(Erf(), n=8)
    gram = energy_force_gram(net, Side(moving), None, "ntk", progress=False)
    assert gram.shape == (4 + 3 * 11, 4 + 3 * 11)
    values = np.linalg.eigvalsh(gram)
    assert values[0] >= -1e-5 * values[-1]  # the quadrature's
    np.testing.assert_array_equal(gram[-3:], 0)  # nothing acts on an atom alone
    monkeypatch.setattr(TowerDerivatives, "batch", 4)
    monkeypatch.setattr("so3ntk.molecules.forces.kernels.SLOTS", 2)
    monkeypatch.setattr("so3ntk.molecules.forces.kernels.COORDINATES", 6)
    motion = np.random.default_rng(0).normal(size=33)
    directions = moving.along(np.arange(11), motion)
    one = energy_force_gram(net, Side(moving), Side(moving, directions=directions), "ntk", progress=False)
    np.testing.assert_allclose(one[:, :4], gram[:, :4], rtol=0, atol=1e-13 * np.abs(gram).max())
    np.testing.assert_allclose(one[:, 4:].sum(axis=1), gram[:, 4:] @ motion, rtol=0, atol=1e-12 * np.abs(gram).max())
