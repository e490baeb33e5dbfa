"""Forces where kernels are inner products: covariances without pairs of atoms, and potentials as weights of features."""

import dataclasses

import numpy as np
import pytest
from ase import Atoms

from so3ntk import Dense, GroupPool, Lift, Products, load, save, serial
from so3ntk.molecules import AtomSum, EnergyForceRegressor, Shells
from so3ntk.molecules.forces import kernels
from so3ntk.molecules.forces.defaults import older_defaults
from so3ntk.molecules.forces.displacements import moving_environments
from so3ntk.molecules.forces.kernels import Side, energy_force_gram
from so3ntk.saving.estimators import ForceRecord
from tests.molecules.springs import springs, waters

SHELLS = {"radial": Shells(4, width=0.1, growth=0.5), "bandlimit": 3, "species": ("H", "O")}
WATERS = waters(4, seed=5)
#: Of two sizes, one without an oxygen, and an atom that is alone.
MIXED = [*WATERS[:2], Atoms("HH", [[0, 0, 0], [0, 0, 0.8]]), Atoms("O"), WATERS[2] + Atoms("H", [[0, 1.6, 1.6]])]


def network(*layers, match_species=True, **lift):
    return serial(Lift(b_std=0.7, **lift), *layers, GroupPool(), Dense(W_std=1.2), AtomSum(match_species=match_species))


NETWORKS = {
    "products": network(Products([0.2, 0.5, 0.3])),
    "squares of all atoms": network(Products([0.1, 0, 1.0]), match_species=False),
    "weights of channels and degrees": network(
        Products([0, 0, 1.0]), channel_weights=np.linspace(0.5, 1.5, 8), variances=np.array([1.0, 0.5, 2.0])
    ),
    "reflections": network(Products([0, 0, 1.0]), group="O3"),
    "linear": network(Products([0, 1.0])),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_covariances_are_those_of_pairs_of_atoms(name, monkeypatch):
    net, first = NETWORKS[name], Side(moving_environments(MIXED, SHELLS))
    sides = [(first, None)]
    if name == "products":  # what rows without forces are does not depend on the network
        sides.append((first, Side(moving_environments(WATERS[1:3], SHELLS), forces=False)))
    kernel = "nngp" if name == "squares of all atoms" else "ntk"
    found = [energy_force_gram(net, *pair, kernel, progress=False) for pair in sides]
    make_plan = kernels.make_plan
    assert make_plan(net.layers, net.quadrature, net.rtol, first.moving.environments, None).features is not None
    monkeypatch.setattr(kernels, "make_plan", lambda *args: dataclasses.replace(make_plan(*args), features=None))
    for ours, pair in zip(found, sides, strict=True):
        expected = energy_force_gram(net, *pair, kernel, progress=False)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_array_equal(found[0], found[0].T)


@pytest.mark.parametrize("with_forces", [True, False])
def test_predictions_are_those_of_the_covariances(with_forces, tmp_path):
    energies, forces = springs(WATERS)
    model = EnergyForceRegressor(NETWORKS["products"], environment=SHELLS, selection=3)
    model.fit(WATERS, energies, forces if with_forces else None)
    test = waters(3, seed=1)
    found, cross = model.predict(test), model.cross_kernel(test) @ model.dual_coef_
    assert model.weights_ is not None
    scale = np.abs(model.cross_kernel(test)) @ np.abs(model.dual_coef_)
    np.testing.assert_allclose(
        found.energies - model.baseline_.predict(test), cross[:3], rtol=0, atol=1e-13 * scale.max()
    )
    np.testing.assert_allclose(np.concatenate(found.forces).ravel(), cross[3:], rtol=0, atol=1e-13 * scale.max())
    save(model, tmp_path / "model")
    again = load(tmp_path / "model", check=True).predict(test)
    np.testing.assert_array_equal(again.energies, found.energies)
    np.testing.assert_array_equal(np.concatenate(again.forces), np.concatenate(found.forces))


def test_forces_are_minus_the_gradient_of_the_energy_and_turn_with_the_molecule():
    """To rounding: the grid of polynomials is exact, and none is used."""
    from scipy.spatial.transform import Rotation

    model = EnergyForceRegressor(NETWORKS["products"], environment=SHELLS, selection=3).fit(WATERS, *springs(WATERS))
    (water,), step, moved = waters(1, seed=1), 1e-3, []
    for atom in range(3):
        for axis in range(3):
            for by in (1, -1, 2, -2):
                moved.append(water.copy())
                moved[-1].positions[atom, axis] += by * step
    plus, minus, plus2, minus2 = np.moveaxis(model.predict(moved).energies.reshape(3, 3, 4), -1, 0)
    slope = (8 * (plus - minus) - (plus2 - minus2)) / (12 * step)
    (forces,) = model.predict([water]).forces
    np.testing.assert_allclose(slope, -forces, rtol=0, atol=1e-6 * np.abs(forces).max())
    turn = Rotation.random(rng=np.random.default_rng(3))
    turned = model.predict([Atoms(water.numbers, turn.apply(water.positions) + 2.0)])
    np.testing.assert_allclose(turned.forces[0], turn.apply(forces), rtol=0, atol=1e-9 * np.abs(forces).max())


@pytest.mark.parametrize("options", [{}, {"environment": SHELLS}, {"environment": SHELLS, "baseline": False}])
def test_elements_that_no_training_molecule_had(options):
    pair = [Atoms("HH", [[0, 0, 0], [0, 0, r]]) for r in (0.7, 0.8, 0.9)]
    model = EnergyForceRegressor(NETWORKS["products"], energy_noise=1e-3, **options).fit(pair, [1.0, 0.5, 0.8])
    with pytest.raises(ValueError, match=r"predict: molecule 1 holds O, which no training molecule did \(H\)"):
        model.predict([pair[0], WATERS[0]])
    energies = [1.0, 0.5, 0.8, 3.0]
    model.fit([*pair, WATERS[0]], energies).predict([pair[0], WATERS[1]])  # what the message says to do


def test_defaults_and_those_of_older_files():
    energies, forces = springs(WATERS)
    model = EnergyForceRegressor().fit(WATERS, energies, forces)
    assert (model.weights_ is not None, model.settings["species"]) == (True, (1, 8))
    test = waters(6, seed=1)
    zero = np.abs(np.concatenate(springs(test)[1])).mean()
    assert np.abs(np.concatenate(model.predict(test).forces) - np.concatenate(springs(test)[1])).mean() < 0.3 * zero
    state = ForceRecord().state(model)
    del state["species_"]
    again = EnergyForceRegressor()
    ForceRecord().restore(again, state)
    net, environment = older_defaults()
    assert (again.network_, again.environment, again.weights_) == (net, environment, None)
    expected = moving_environments(WATERS, environment).slopes
    np.testing.assert_array_equal(again.moving_.slopes, expected)
