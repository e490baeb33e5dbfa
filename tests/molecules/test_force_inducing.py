"""Energies and forces from inducing functions: the dense fit is the limit, and what is known of structures may differ."""

import dataclasses

import numpy as np
import pytest
from ase.calculators.emt import EMT

from so3ntk import Dense, GroupPool, Lift, Products, load, save, serial
from so3ntk.basics.double import double_precision
from so3ntk.molecules import AtomSum, EnergyForceRegressor, Shells
from so3ntk.molecules.forces import kernels, regressor
from so3ntk.molecules.forces.displacements import STRAINS
from so3ntk.molecules.forces.known import Known
from so3ntk.molecules.forces.noise import STRAIN
from tests.molecules.metals import METAL, metals
from tests.molecules.springs import springs, waters

SHELLS = {"radial": Shells(3, width=0.1, growth=0.5, cutoff=4.0), "bandlimit": 2, "species": ("H", "O")}
NETWORK = serial(Lift(b_std=0.7), Products([0.2, 0.5, 0.3]), GroupPool(), Dense(), AtomSum(match_species=True))
TRAIN, TEST = waters(6, seed=5), waters(3, seed=1)
NOISES = {"energy_noise": 1e-2, "force_noise": 1e-1}


def joined(found):
    return np.concatenate([found.energies, np.concatenate(found.forces).ravel()])


def fitted(inducing, **options):
    model = EnergyForceRegressor(NETWORK, environment=SHELLS, inducing=inducing, **NOISES, **options)
    return model.fit(TRAIN, *springs(TRAIN))


@pytest.fixture(scope="module")
def dense():
    return fitted(None)


@pytest.fixture(scope="module")
def sparse():
    return fitted(12)


def test_all_functions_are_the_dense_fit(dense, monkeypatch):
    """Environments of waters span few features: the basis stops where it has them all. Chosen in blocks, many in one solve."""
    monkeypatch.setattr("so3ntk.molecules.forces.inducing.BLOCK", 8)
    full = fitted(400)
    assert len(full.sparse_.basis) < 200
    assert full.amplitude_ == pytest.approx(dense.amplitude_, rel=1e-6)
    np.testing.assert_allclose(full.baseline_.values, dense.baseline_.values, rtol=1e-6)
    found, expected = full.predict(TEST, return_std=True), dense.predict(TEST, return_std=True)
    scale = np.abs(joined(expected)).max()
    np.testing.assert_allclose(joined(found), joined(expected), rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(found.energy_std, expected.energy_std, rtol=1e-4)
    np.testing.assert_allclose(np.concatenate(found.force_std), np.concatenate(expected.force_std), rtol=1e-4)


def test_the_solution_with_its_formulas_written_out(sparse):
    """Normal equations of phi and composition, in units of the noises; variances with their inverse."""
    energies, forces = springs(TRAIN)
    phi, cross = sparse.cross_kernel(TRAIN), sparse.cross_kernel(TEST)
    assert phi.shape == (6 + 54, 12)
    weights = np.r_[np.full(6, 1e2), np.full(54, 1e1)]
    border = np.r_[np.full(6, 1.0), np.zeros(54)][:, None]  # one composition
    rows, y = np.hstack([phi, border]), np.r_[energies, np.concatenate(forces).ravel()]
    inside = rows.T @ (weights[:, None] * rows) + np.diag(np.r_[np.ones(12), 0.0])
    solution = np.linalg.solve(inside, rows.T @ (weights * y))
    found = sparse.predict(TEST, return_std=True)
    expected = np.hstack([cross, np.r_[np.ones(3), np.zeros(27)][:, None]]) @ solution
    np.testing.assert_allclose(joined(found), expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    rest = weights @ (y - rows @ solution) ** 2 + solution[:12] @ solution[:12]
    assert sparse.amplitude_**2 == pytest.approx(rest / 59, rel=1e-6)
    prior = np.diag(sparse._gram(kernels.Side(regressor.moving_environments(TEST[:1], SHELLS)), None))
    inverse = np.linalg.inv(inside[:12, :12])
    own = cross[[0, *range(3, 12)]]
    variance = prior - np.einsum("ij,ij->i", own, own) + np.einsum("ij,jk,ik->i", own, inverse, own)
    deviations = np.r_[found.energy_std[:1], found.force_std[0].ravel()]
    np.testing.assert_allclose(deviations**2, sparse.amplitude_**2 * variance, rtol=1e-5)


def test_pairs_and_features_have_the_same_basis(sparse, monkeypatch):
    """A kernel that is an inner product, and the same one by pairs of environments: equal functions, features, predictions."""
    for module in (kernels, regressor):
        make_plan = module.make_plan
        monkeypatch.setattr(
            module, "make_plan", lambda *args, f=make_plan: dataclasses.replace(f(*args), features=None)
        )
    pairs = fitted(12)
    assert (pairs.weights_, sparse.weights_ is None) == (None, False)
    for kind, own in sparse.sparse_.basis.functions.items():
        np.testing.assert_array_equal(np.sort(pairs.sparse_.basis.functions[kind].pick), np.sort(own.pick))  # ties
    found, expected = pairs.predict(TEST), sparse.predict(TEST)
    np.testing.assert_allclose(joined(found), joined(expected), rtol=0, atol=1e-7 * np.abs(joined(expected)).max())


def test_double_precision_whatever_jax_is_set_to(sparse):
    with double_precision(False):
        found = fitted(12).predict(TEST, return_std=True)
    expected = sparse.predict(TEST, return_std=True)
    np.testing.assert_allclose(joined(found), joined(expected), rtol=1e-12)
    np.testing.assert_allclose(found.energy_std, expected.energy_std, rtol=1e-9)


def test_saving(sparse, tmp_path):
    expected = sparse.predict(TEST, return_std=True)
    save(sparse, tmp_path / "model", spectrum=True)
    found = load(tmp_path / "model", check=True).predict(TEST, return_std=True)
    np.testing.assert_array_equal(joined(found), joined(expected))
    np.testing.assert_array_equal(found.energy_std, expected.energy_std)
    save(sparse, tmp_path / "small", spectrum=False)
    small = load(tmp_path / "small")
    np.testing.assert_array_equal(joined(small.predict(TEST)), joined(expected))
    with pytest.raises(ValueError, match="Save the fitted model with spectrum=True"):
        small.predict(TEST, return_std=True)


def test_one_way_to_fit_after_the_other(tmp_path):
    """Nothing of the first is left; with the default environment, of which files hold the elements."""
    model = EnergyForceRegressor(**NOISES).fit(TRAIN, *springs(TRAIN))
    expected = model.predict(TEST)
    model.set_params(inducing=12).fit(TRAIN, *springs(TRAIN))
    assert not {"dual_coef_", "factor_", "moving_", "present_"} & vars(model).keys()
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.species_ == (1, 8)
    np.testing.assert_array_equal(joined(again.predict(TEST)), joined(model.predict(TEST)))
    model.set_params(inducing=None).fit(TRAIN, *springs(TRAIN))
    assert not hasattr(model, "sparse_")
    np.testing.assert_array_equal(joined(model.predict(TEST)), joined(expected))


@pytest.mark.parametrize("inducing", [None, 400])
def test_structures_without_forces_count_by_their_energies(inducing, dense):
    energies, forces = springs(TRAIN)
    model = EnergyForceRegressor(NETWORK, environment=SHELLS, inducing=inducing, **NOISES)
    model.fit(TRAIN, energies, [None if i % 2 else f for i, f in enumerate(forces)])
    known = np.r_[np.ones(6, bool), np.repeat(np.arange(6) % 2 == 0, 9)]
    gram = dense._gram(kernels.Side(dense.moving_), None)[np.ix_(known, known)]
    gram += np.diag(np.r_[np.full(6, 1e-2), np.full(27, 1e-1)])
    border = np.r_[np.ones(6), np.zeros(27)][:, None]
    y = np.r_[energies, np.concatenate(forces).ravel()][known]
    solution = np.linalg.solve(np.block([[gram, border], [border.T, np.zeros((1, 1))]]), np.r_[y, 0])
    expected = dense.cross_kernel(TEST)[:, known] @ solution[:-1] + np.r_[np.ones(3), np.zeros(27)] * solution[-1]
    np.testing.assert_allclose(joined(model.predict(TEST)), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.fixture(scope="module")
def metal():
    frames, energies, forces, stresses = metals(16)
    stresses = [None if i == 3 else s for i, s in enumerate(stresses)]
    return EnergyForceRegressor(NETWORK, environment=METAL, selection=8).fit(frames, energies, forces, stresses)


def test_stresses_are_differences_of_energies_over_strains(metal):
    frame, step = metals(1, seed=3)[0][0], 1e-4
    (stress,) = metal.predict([frame]).stresses
    strained = []
    for strain in STRAINS:
        for by in (step, -step):
            moved = frame.copy()
            moved.set_cell(frame.cell @ (np.eye(3) + by * strain), scale_atoms=True)
            strained.append(moved)
    plus, minus = metal.predict(strained).energies.reshape(6, 2).T
    found = (plus - minus) / (2 * step) / frame.get_volume()
    expected = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(stress, stress.T)


def test_rows_of_strains_are_minus_the_derivatives_of_energies():
    frames, energies, forces, stresses = metals(2)
    targets = Known.of(frames, energies, forces, [None, stresses[1]], "fit").targets(None, free=False)
    assert targets.owner[targets.sort == STRAIN].tolist() == [1] * 6
    slopes = []
    for strain in STRAINS:
        both = []
        for by in (1e-4, -1e-4):
            moved = frames[1].copy()
            moved.set_cell(moved.cell @ (np.eye(3) + by * strain), scale_atoms=True)
            moved.calc = EMT()
            both.append(moved.get_potential_energy())
        slopes.append((both[0] - both[1]) / 2e-4)
    np.testing.assert_allclose(targets.y[targets.sort == STRAIN], -np.array(slopes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inducing", [None, 60])
def test_stresses_are_learned(metal, inducing):
    frames, energies, forces, stresses = metals(16)
    test, _, _, expected = metals(6, seed=1)

    def error(model):
        return np.abs(np.array(model.predict(test).stresses) - np.array(expected)).mean()

    options = {"environment": METAL, "selection": 8, "inducing": inducing}
    with_them = (
        metal if inducing is None else EnergyForceRegressor(NETWORK, **options).fit(frames, energies, forces, stresses)
    )
    without = EnergyForceRegressor(NETWORK, **options).fit(frames, energies, forces)
    assert with_them.stress_noise_ > 0
    assert without.stress_noise_ is None
    zero = np.abs(np.array(expected)).mean()
    assert error(with_them) < 0.25 * zero
    assert error(with_them) < error(without)
    assert metal.predict(TEST[:0] + test[:1], return_std=True).stress_std[0].shape == (3, 3)


def test_a_baseline_of_isolated_atoms():
    atoms = {"H": -13.6, "O": -430.0}
    energies, forces = springs(TRAIN)
    model = EnergyForceRegressor(NETWORK, environment=SHELLS, baseline=atoms, **NOISES)
    model.fit(TRAIN, energies + 2 * atoms["H"] + atoms["O"], forces)
    plain = EnergyForceRegressor(NETWORK, environment=SHELLS, baseline=False, **NOISES).fit(TRAIN, energies, forces)
    total = plain.predict(TEST).energies + 2 * atoms["H"] + atoms["O"]
    np.testing.assert_allclose(model.predict(TEST).energies, total, rtol=1e-12)
    free = [EnergyForceRegressor(NETWORK, environment=SHELLS, baseline=yes, **NOISES).fit(TRAIN, energies, forces)
            for yes in (True, np.True_)]  # fmt: skip
    np.testing.assert_array_equal(*(one.predict(TEST).energies for one in free))
    with pytest.raises(ValueError, match=r"baseline has no energy of O, which structures hold; it has H\."):
        EnergyForceRegressor(NETWORK, environment=SHELLS, baseline={"H": 0.0}).fit(TRAIN, energies, forces)
    with pytest.raises(ValueError, match="'Hy' is not the symbol of a chemical element"):
        EnergyForceRegressor(NETWORK, environment=SHELLS, baseline={"Hy": 0.0}).fit(TRAIN, energies, forces)
    with pytest.raises(ValueError, match="expected a finite energy of H, got 'low'"):
        EnergyForceRegressor(NETWORK, environment=SHELLS, baseline={"H": "low"}).fit(TRAIN, energies, forces)


def test_wrong_arguments(monkeypatch):
    energies, forces = springs(TRAIN)

    def fit(*args, **options):
        return EnergyForceRegressor(NETWORK, environment=SHELLS, **options).fit(TRAIN, energies, *args)

    stress = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"structure 0 has a stress, but pbc .* and a cell of rank 0"):
        fit(forces, [stress] * 6)
    with pytest.raises(ValueError, match="stresses of 6 structures, None where there are none, got 2"):
        fit(forces, [None, None])
    with pytest.raises(ValueError, match=r"stress of structure 1 to be a finite \(3, 3\) matrix, or \(6,\)"):
        fit(forces, [None, np.zeros(5), *[None] * 4])
    with pytest.raises(ValueError, match="forces of 6 structures, None where there are none, got 2"):
        fit([None, forces[0]])
    with pytest.raises(ValueError, match=r"structure 1: expected forces .* got \(2, 3\) for molecule 0 of 3 atoms"):
        fit([None, forces[0][:2], *forces[2:]])
    with pytest.raises(ValueError, match=r"stress_noise=0.1 is for stresses, and fit was given none"):
        fit(forces, stress_noise=0.1)
    with pytest.raises(ValueError, match="inducing, a number of functions, to be at least 1, got 0"):
        fit(forces, inducing=0)
    with pytest.raises(ValueError, match="with inducing functions force_noise must be positive"):
        fit(forces, inducing=5, force_noise=0)
    with pytest.raises(ValueError, match=r"of which none has forces. Put some with these first"):
        fit([None, None, *forces[2:]], selection=2)
    monkeypatch.setattr(regressor, "total_memory", lambda: 1000.0)
    with pytest.raises(
        MemoryError, match=r"the covariances of 6 energies and 54 components of forces need .* Pass inducing=4000"
    ):
        fit(forces)
    fit(forces, inducing=20)  # what the message says to do
