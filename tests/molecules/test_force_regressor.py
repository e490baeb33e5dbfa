"""The regression of energies and forces: what predictions obey, how the noises are chosen, errors."""

import numpy as np
import pytest
from ase import Atoms

import so3ntk
from so3ntk import Dense, Erf, GroupPool, Lift, NotPositiveDefiniteError, Relu, Sign, serial
from so3ntk.molecules import (
    AtomSum,
    CompositionBaseline,
    EnergyForceRegressor,
    ForceData,
    force_network,
    read_forces,
)
from so3ntk.molecules.forces.displacements import moving_environments
from so3ntk.molecules.forces.kernels import Side
from so3ntk.molecules.forces.noise import (
    composition_basis,
    negative_log_likelihood,
    relative_candidates,
    without_composition,
)
from tests.molecules.springs import SETTINGS, small_network, springs, waters

TRAIN, TEST = waters(10, seed=0), waters(6, seed=1)


def regressor(**options):
    return EnergyForceRegressor(small_network(), environment=SETTINGS, **options)


@pytest.fixture(scope="module")
def joint():
    return regressor().fit(TRAIN, *springs(TRAIN))


@pytest.fixture(scope="module")
def alone():
    return regressor().fit(TRAIN, springs(TRAIN)[0])


def force_error(model):
    return np.abs(np.concatenate(model.predict(TEST).forces) - np.concatenate(springs(TEST)[1])).mean()


def test_forces_are_learned(joint, alone):
    zero = np.abs(np.concatenate(springs(TEST)[1])).mean()
    assert force_error(alone) < 0.7 * zero
    assert force_error(joint) < 0.5 * force_error(alone)
    assert np.abs(joint.predict(TEST).energies - springs(TEST)[0]).mean() < 0.5
    assert joint.force_noise_ is not None
    assert alone.force_noise_ is None


def test_residuals_of_training_data_are_noise_times_coefficients(joint):
    """K alpha = y - Lambda alpha, by the two ways of predicting."""
    energies, forces = springs(TRAIN)
    noise = np.concatenate([np.full(10, joint.energy_noise_), np.full(90, joint.force_noise_)])
    residual = noise * joint.dual_coef_
    found = joint.predict(TRAIN)
    np.testing.assert_allclose(found.energies, energies - residual[:10], atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate(found.forces).ravel(), np.concatenate(forces).ravel() - residual[10:], atol=1e-4
    )


@pytest.mark.parametrize("name", ["joint", "alone"])
def test_forces_are_minus_the_gradient_of_the_energy(name, request):
    model, water = request.getfixturevalue(name), TEST[0]
    step, moved = 4e-3, []
    for atom in range(3):
        for axis in range(3):
            for sign in (1, -1, 2, -2):
                copy = water.copy()
                copy.positions[atom, axis] += sign * step
                moved.append(copy)
    plus, minus, plus2, minus2 = np.moveaxis(model.predict(moved).energies.reshape(3, 3, 4), -1, 0)
    slope = (8 * (plus - minus) - (plus2 - minus2)) / (12 * step)
    forces = model.predict([water]).forces[0]
    # rounding of the large coefficients, 1e-6 of an energy, over the step; the rest of the differences, step^4
    np.testing.assert_allclose(slope, -forces, atol=3e-5 * np.abs(forces).max())


def test_forces_turn_with_the_molecule_and_do_not_pull_it_away(joint):
    turn = so3ntk.random_rotations(4, seed=2)
    found = joint.predict(TEST[:4], return_std=True)
    turned = joint.predict([Atoms(a.numbers, r.apply(a.positions) + 3.0) for a, r in zip(TEST, turn, strict=False)])
    largest = np.abs(np.concatenate(found.forces)).max()
    for molecule, force, rotation, other in zip(TEST, found.forces, turn, turned.forces, strict=False):
        np.testing.assert_allclose(
            force.sum(axis=0), 0, atol=1e-7 * largest
        )  # exact: neighbours are seen by differences
        torque = np.cross(molecule.positions, force).sum(axis=0)
        np.testing.assert_allclose(torque, 0, atol=2e-3 * largest)  # the quadrature's
        np.testing.assert_allclose(rotation.apply(force), other, atol=2e-3 * largest)
    np.testing.assert_allclose(turned.energies, found.energies[:4], atol=2e-3 * np.ptp(springs(TRAIN)[0]))


def test_prediction_with_and_without_deviations_agree(joint, alone):
    for model in (joint, alone):
        plain, full = model.predict(TEST), model.predict(TEST, return_std=True)
        # coefficients of opposite signs leave 1e-6 of an energy
        np.testing.assert_allclose(plain.energies, full.energies, rtol=0, atol=2e-5)
        np.testing.assert_allclose(np.concatenate(plain.forces), np.concatenate(full.forces), rtol=0, atol=2e-3)
        assert plain.energy_std is None
        assert [s.shape for s in full.force_std] == [(3, 3)] * 6
        assert (full.energy_std > 0).all()
    assert joint.predict(TEST, True).energy_std.mean() < alone.predict(TEST, True).energy_std.mean()


def test_deviations_are_the_posterior_s(joint):
    """s^2 (K_** - K_* (K + Lambda)^-1 K_*^T) with the matrices written out, and no factor."""
    side = Side(joint.moving_)
    test = Side(moving_environments(TEST[:2], SETTINGS))
    noise = np.concatenate([np.full(10, 1e-4), np.full(90, 1e-4)])
    model = regressor(energy_noise=1e-4, force_noise=1e-4).fit(TRAIN, *springs(TRAIN))
    gram, cross, own = (joint._gram(*pair) for pair in ((side, None), (test, side), (test, None)))
    expected = model.amplitude_**2 * np.diag(own - cross @ np.linalg.solve(gram + np.diag(noise), cross.T))
    found = model.predict(TEST[:2], return_std=True)
    np.testing.assert_allclose(found.energy_std**2, expected[:2], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(found.force_std).ravel() ** 2, expected[2:], rtol=1e-6)


def test_noises_maximise_the_marginal_likelihood(joint):
    gram = joint._gram(Side(joint.moving_), None)
    energies, forces = springs(TRAIN)
    y = np.concatenate([energies, np.concatenate(forces).ravel()])
    chosen = joint.energy_noise_, joint.force_noise_
    lowest = [c[0] for c in relative_candidates(gram, 10)]
    # what no composition changes: differences of the ten energies, and the forces
    gram, y = without_composition(gram, y, composition_basis(TRAIN))
    best = negative_log_likelihood(gram, y, 9, chosen)
    looked = 0
    for factor in ((10, 1), (0.1, 1), (1, 10), (1, 0.1)):
        near = [n * f for n, f in zip(chosen, factor, strict=True)]
        if all(n > 0.5 * low for n, low in zip(near, lowest, strict=True)):
            assert best <= negative_log_likelihood(gram, y, 9, near)
            looked += 1
    assert looked >= 2
    noise = np.diag(np.r_[np.full(9, chosen[0]), np.full(90, chosen[1])])
    s2 = y @ np.linalg.solve(gram + noise, y) / 99
    expected = -0.5 * y @ np.linalg.solve(s2 * (gram + noise), y) - 0.5 * np.linalg.slogdet(s2 * (gram + noise))[1]
    assert -best == pytest.approx(expected + len(y) / 2, rel=1e-6)  # the Gaussian's log density at the best amplitude


@pytest.mark.parametrize(
    ("with_forces", "baseline", "draws"), [(True, True, 1000), (False, True, 400), (False, False, 400)]
)
def test_the_amplitude_of_targets_from_the_model_is_one_in_the_mean(with_forces, baseline, draws, monkeypatch):
    """Compositions plus a Gaussian process plus noise: the composition's fit takes degrees of freedom."""
    pool = [*waters(3, seed=3), Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), Atoms("HH", [[0, 0, 0], [0, 0, 0.76]])]
    noises = {"energy_noise": 0.1, "force_noise": 0.1 if with_forces else None}
    model = regressor(baseline=baseline, **noises)
    moving = moving_environments(pool, SETTINGS)
    gram = model._gram(Side(moving, with_forces), None)
    monkeypatch.setattr("so3ntk.molecules.forces.regressor.moving_environments", lambda *_: moving)
    monkeypatch.setattr(EnergyForceRegressor, "_gram", lambda *_: gram)
    monkeypatch.setattr("so3ntk.molecules.forces.regressor.check_consistency", lambda *_: None)
    factor = np.linalg.cholesky(gram + 0.1 * np.eye(len(gram)))
    rng, squares = np.random.default_rng(0), []
    counts = np.array([[np.sum(molecule.numbers == z) for z in (1, 8)] for molecule in pool])
    for _ in range(draws):
        y = factor @ rng.normal(size=len(gram))
        energies = y[:5] + counts @ rng.normal(scale=100.0, size=2) * baseline
        model.fit(pool, energies, y[5:].reshape(-1, 3) if with_forces else None)
        squares.append(model.amplitude_**2)
    freedom = len(gram) - 2 * baseline  # 3 of 5 energies
    assert np.mean(squares) == pytest.approx(1, abs=5 * np.sqrt(2 / freedom / len(squares)))


def test_noises_are_chosen_by_what_no_composition_changes(monkeypatch):
    """Six energies of three compositions: the likelihood of their four contrasts, written out for each candidate."""
    dimers = [Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), Atoms("HH", [[0, 0, 0], [0, 0, 0.76]]), Atoms("OH", [[0, 0, 0], [0, 0, 1.07]])]  # fmt: skip
    pool, model = [*waters(3, seed=3), *dimers], regressor()
    moving = moving_environments(pool, SETTINGS)
    gram = model._gram(Side(moving, False), None)
    monkeypatch.setattr("so3ntk.molecules.forces.regressor.moving_environments", lambda *_: moving)
    monkeypatch.setattr(EnergyForceRegressor, "_gram", lambda *_: gram)
    counts = np.array([[np.sum(molecule.numbers == z) for z in (1, 8)] for molecule in pool])
    contrasts = np.linalg.svd(counts.T)[2][2:].T
    for seed in (5, 7, 10, 11):  # for these the likelihood of all six residuals is largest elsewhere
        y, losses = np.random.default_rng(seed).normal(size=6), []
        for noise in (candidates := relative_candidates(gram, 6)[0]):
            matrix, w = contrasts.T @ (gram + noise * np.eye(6)) @ contrasts, contrasts.T @ y
            losses.append(2 * np.log(w @ np.linalg.solve(matrix, w)) + np.linalg.slogdet(matrix)[1] / 2)
        assert model.fit(pool, y).energy_noise_ == candidates[int(np.argmin(losses))]


def test_an_amplitude_without_degrees_of_freedom():
    """One molecule's energy is its composition's: nothing is left, and nothing is said of deviations."""
    model = regressor(energy_noise=0.1).fit(TRAIN[:1], [3.0])
    found = model.predict(TEST[:2], return_std=True)
    assert np.isfinite(found.energies).all()
    assert np.isnan(found.energy_std).all()
    constant = regressor(energy_noise=0.1, baseline=False).fit(TRAIN[:2], [0.0, 0.0])
    with pytest.warns(UserWarning, match="constant, so the amplitude"):
        constant.predict(TEST[:1], return_std=True)


def test_a_choice_of_noises_without_anything_to_choose_by():
    """One molecule of its composition, and energies that vanish: the noises make the covariance positive definite."""
    for energies, options in (([3.0], {}), ([0.0, 0.0], {"baseline": False})):
        model = regressor(**options).fit(TRAIN[: len(energies)], energies)
        assert 0 < model.energy_noise_ < np.inf
        np.testing.assert_allclose(model.predict(TRAIN[:1]).energies, energies[0], atol=1e-9)


def test_reading_forces(tmp_path):
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    energies, forces = springs(TRAIN)
    for molecule, energy, force in zip(copies := [a.copy() for a in TRAIN], energies, forces, strict=True):
        molecule.calc = SinglePointCalculator(molecule, energy=energy, forces=force)
    write(tmp_path / "waters.xyz", copies, format="extxyz")
    data = read_forces(tmp_path / "waters.xyz", unit="kcal/mol")
    np.testing.assert_allclose(data.energies, energies, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(data.forces), np.concatenate(forces), atol=1e-6)
    part = data[[3, 1]]
    assert (len(part), part.unit) == (2, "kcal/mol")
    np.testing.assert_array_equal(part.forces[1], data.forces[1])
    with pytest.raises(
        ValueError, match=r"frame 0 has no 'gradient'; it has .*forces.* Pass one of these as forces_key"
    ):
        read_forces(tmp_path / "waters.xyz", forces_key="gradient")
    with pytest.raises(TypeError):
        ForceData(TRAIN)


def test_wrong_targets():
    energies, forces = springs(TRAIN)
    fit = regressor().fit
    with pytest.raises(ValueError, match=r"energies of the shape \(10,\), one per molecule, got \(9,\)"):
        fit(TRAIN, energies[:9], forces)
    with pytest.raises(ValueError, match=r"10 arrays of shape \(atoms, 3\).* one array \(30, 3\).* got 9 arrays"):
        fit(TRAIN, energies, forces[:9])
    with pytest.raises(ValueError, match=r"got \(3, 2\) for molecule 4 of 3 atoms"):
        fit(TRAIN, energies, [f[:, :2] if i == 4 else f for i, f in enumerate(forces)])
    with pytest.raises(ValueError, match=r"forces of the shape \(30, 3\).* got \(90,\)"):
        fit(TRAIN, energies, np.ravel(forces))
    with pytest.raises(ValueError, match="forces hold NaN or infinity, first at atom 7"):
        fit(TRAIN, energies, np.where(np.arange(30)[:, None] == 7, np.nan, np.concatenate(forces)))
    with pytest.raises(ValueError, match="energies hold NaN or infinity, first at molecule 0"):
        fit(TRAIN, energies * np.nan, forces)
    with pytest.raises(TypeError, match=r"expected ase\.Atoms, got str"):
        fit(["H2O"], energies[:1])
    with pytest.raises(ValueError, match="at least one molecule"):
        fit([], [])


def test_wrong_parameters():
    def fit(net=None, **options):
        return EnergyForceRegressor(net, environment=SETTINGS, **options).fit(TRAIN[:2], [0.0, 1.0], np.zeros((6, 3)))

    def net(activation, *last):
        return serial(Lift(), activation, GroupPool(), Dense(), *last, rtol=0.5)

    with pytest.raises(ValueError, match=r"Sign is not continuous.*Use a smooth activation"):
        fit(net(Sign(), AtomSum()))
    with pytest.raises(TypeError, match=r"end the network with AtomSum"):
        fit(net(Erf()))
    with pytest.raises(NotImplementedError, match=r"ends with AtomSum"):
        fit(net(Erf(), AtomSum(), Dense()))
    with pytest.raises(TypeError, match="a Network that ends with AtomSum"):
        fit("relu")
    with pytest.raises(ValueError, match='kernel to be "ntk" or "nngp"'):
        fit(kernel="rbf")
    with pytest.raises(ValueError, match="force_noise to be None or a finite variance >= 0, got -1"):
        fit(force_noise=-1)
    with pytest.raises(ValueError, match="selection, a number of molecules, to be at least 1, got 0"):
        fit(selection=0)
    for baseline in ({"H": -13.6}, CompositionBaseline().fit(TRAIN, np.zeros(10)), "yes", 1, None):
        with pytest.raises(
            TypeError, match=r"baseline to be True.* or False, got .*energies - baseline\.predict\(atoms\)"
        ):
            fit(baseline=baseline)
    with pytest.raises(TypeError, match="progress to be True or False, got 'no'"):
        fit(progress="no")
    with pytest.raises(ValueError, match=r"force_noise=0\.1 is for forces, and fit was given none"):
        regressor(force_noise=0.1).fit(TRAIN[:2], [0.0, 1.0])
    for environment, message in (
        ({"bandlimits": 3}, "environment takes species, powers, .* got 'bandlimits'"),
        ({**SETTINGS, "dtype": "float32"}, "got 'dtype'.*float64 here"),
        ("default", "a dict, such as .* got 'default'"),
    ):
        with pytest.raises(TypeError, match=message):
            EnergyForceRegressor(small_network(), environment=environment).fit(TRAIN[:2], [0.0, 1.0])
    twice = TRAIN[:1] * 2, [0.0, 1.0], np.zeros((6, 3))
    with pytest.raises(NotPositiveDefiniteError, match="Raise energy_noise, force_noise") as error:
        regressor(energy_noise=0, force_noise=0).fit(*twice)
    noise = float(f"{error.value.needed:.1e}")  # as the message has it
    regressor(energy_noise=noise, force_noise=noise).fit(*twice)


def test_energies_of_ones_own_are_subtracted_before(alone):
    """What the message about baselines says to do."""
    energies, _ = springs(TRAIN)
    baseline = CompositionBaseline().fit(TRAIN, energies)
    model = regressor(baseline=False).fit(TRAIN, energies - baseline.predict(TRAIN))
    found = model.predict(TEST).energies + baseline.predict(TEST)
    assert np.abs(found - springs(TEST)[0]).mean() < 2 * np.abs(alone.predict(TEST).energies - springs(TEST)[0]).mean()


def test_a_wrong_sign_is_said():
    energies, forces = springs(TRAIN)
    with pytest.warns(UserWarning, match="EnergyForceRegressor: energies and forces .*wrong sign") as caught:
        regressor(energy_noise=1e-3, force_noise=1e-3).fit(TRAIN, energies, [-f for f in forces])
    assert caught[0].filename == __file__


def test_kinks_are_announced():
    net = serial(Lift(), Relu(), GroupPool(), Dense(), AtomSum(), quadrature=so3ntk.ProductGrid(4), rtol=0.5)
    data = TRAIN[:2], springs(TRAIN[:2])[0]
    with pytest.warns(UserWarning, match="Relu has a kink.*not twice differentiable"):
        EnergyForceRegressor(net, environment=SETTINGS, energy_noise=1.0).fit(*data)
    assert force_network().smoothness == np.inf
