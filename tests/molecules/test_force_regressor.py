"""The regression of energies and forces: what predictions obey, how the noises are chosen, errors."""

from copy import copy

import numpy as np
import pytest
from ase import Atoms

import so3ntk
from so3ntk import Dense, Erf, GroupPool, Lift, NotPositiveDefiniteError, Relu, Sign, serial
from so3ntk.learning.ridge import rms
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
    Targets,
    composition_basis,
    leave_out,
    leave_out_score,
    relative_candidates,
)
from tests.molecules.springs import SETTINGS, small_network, springs, waters

#: Eight have at most sixteen atoms of an element: all blocks are computed by programs of one size.
TRAIN, TEST = waters(8, seed=5), waters(6, seed=1)


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
    noise = np.concatenate([np.full(8, joint.energy_noise_), np.full(72, joint.force_noise_)])
    residual = noise * joint.dual_coef_
    found = joint.predict(TRAIN)
    np.testing.assert_allclose(found.energies, energies - residual[:8], atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate(found.forces).ravel(), np.concatenate(forces).ravel() - residual[8:], atol=1e-4
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
    fine = copy(joint).set_params(net=small_network(12))  # whose quadrature leaves what the bounds say
    found = fine.predict(TEST[:4])
    turned = fine.predict([Atoms(a.numbers, r.apply(a.positions) + 3.0) for a, r in zip(TEST, turn, strict=False)])
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
    noise = np.concatenate([np.full(8, 1e-4), np.full(72, 1e-4)])
    model = regressor(energy_noise=1e-4, force_noise=1e-4).fit(TRAIN, *springs(TRAIN))
    gram, cross, own = (joint._gram(*pair) for pair in ((side, None), (test, side), (test, None)))
    expected = model.amplitude_**2 * np.diag(own - cross @ np.linalg.solve(gram + np.diag(noise), cross.T))
    found = model.predict(TEST[:2], return_std=True)
    np.testing.assert_allclose(found.energy_std**2, expected[:2], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(found.force_std).ravel() ** 2, expected[2:], rtol=1e-6)


def counts_of(molecules):
    return np.array([[np.sum(molecule.numbers == z) for z in (1, 8)] for molecule in molecules])


def left_out(gram, targets, noises):
    """Each molecule predicted from all others, by systems with composition as a border, one for each."""
    n, y, residuals = len(targets.basis), targets.y, np.full(len(targets.y), np.nan)
    matrix = gram + np.diag(np.r_[np.full(n, noises[0]), np.full(len(y) - n, noises[-1])])
    for molecule in range(n):
        out = targets.rows(molecule)
        kept = np.setdiff1d(np.arange(len(y)), out)
        border = targets.columns[kept]
        system = np.block([[matrix[np.ix_(kept, kept)], border], [border.T, np.zeros((border.shape[1],) * 2)]])
        solution = np.linalg.solve(system, np.r_[y[kept], np.zeros(border.shape[1])])
        residuals[out] = y[out] - np.hstack([gram[np.ix_(out, kept)], targets.columns[out]]) @ solution
    return residuals


def test_residuals_of_molecules_that_are_left_out(joint):
    """In closed form and by refits; the noises chosen are no worse than those next to them."""
    gram, (energies, forces) = joint._gram(Side(joint.moving_), None), springs(TRAIN)
    energies = energies - CompositionBaseline().fit(TRAIN, energies).predict(TRAIN)
    targets = Targets.of(np.r_[energies, np.concatenate(forces).ravel()], joint.moving_.sizes, composition_basis(TRAIN))
    chosen = joint.energy_noise_, joint.force_noise_
    found = leave_out(gram, targets, chosen)
    np.testing.assert_allclose(found, left_out(gram, targets, chosen), atol=1e-5 * np.abs(found).max())
    best = leave_out_score(gram, targets, chosen)
    assert best == pytest.approx(np.log(rms(found[:8])) + np.log(rms(found[8:])))
    limits = [(c[0], c[-1]) for c in relative_candidates(gram, targets)]
    near = [[n * f for n, f in zip(chosen, factor, strict=True)] for factor in ((10, 1), (0.1, 1), (1, 10), (1, 0.1))]
    inside = [pair for pair in near if all(0.5 * a < n < 2 * b for n, (a, b) in zip(pair, limits, strict=True))]
    assert len(inside) >= 2
    assert all(best <= leave_out_score(gram, targets, pair) for pair in inside)


def test_a_molecule_that_alone_has_an_element_has_no_residual_of_its_energy():
    pool = [*TRAIN[:3], Atoms("HH", [[0, 0, 0], [0, 0, 0.76]])]
    basis = composition_basis(pool)
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(4 + 33, 60))
    found = leave_out(factor @ factor.T, Targets.of(rng.normal(size=37), np.array([3, 3, 3, 2]), basis), (0.1, 0.2))
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]


@pytest.mark.parametrize(("with_forces", "baseline"), [(True, True), (False, True), (False, False)])
def test_the_amplitude_of_targets_from_the_model_is_one_in_the_mean(with_forces, baseline, monkeypatch):
    """Compositions plus a Gaussian process plus noise: the composition's fit takes degrees of freedom.

    Its square is a quadratic form of the targets, whose mean is the sum over the columns of a factor of their covariance.
    """
    pool = [*waters(3, seed=3), Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), Atoms("HH", [[0, 0, 0], [0, 0, 0.76]])]
    noises = {"energy_noise": 0.1, "force_noise": 0.1 if with_forces else None}
    model = regressor(baseline=baseline, **noises)
    moving = moving_environments(pool, SETTINGS)
    gram = model._gram(Side(moving, with_forces), None)
    monkeypatch.setattr("so3ntk.molecules.forces.regressor.moving_environments", lambda *_: moving)
    monkeypatch.setattr(EnergyForceRegressor, "_gram", lambda *_: gram)
    monkeypatch.setattr("so3ntk.molecules.forces.known.check_forces", lambda *_: None)
    counts = counts_of(pool)
    rng = np.random.default_rng(0)

    def amplitude(y):
        energies = y[:5] + counts @ rng.normal(scale=100.0, size=2) * baseline
        return model.fit(pool, energies, y[5:].reshape(-1, 3) if with_forces else None).amplitude_

    columns = np.linalg.cholesky(gram + 0.1 * np.eye(len(gram))).T
    assert np.sum([amplitude(y) ** 2 for y in columns]) == pytest.approx(1, rel=1e-8)
    assert amplitude(3 * columns[0]) == pytest.approx(3 * amplitude(columns[0]), rel=1e-8)


def test_noises_are_chosen_with_composition_fitted_anew(monkeypatch):
    """Seven energies of three compositions: leave-one-out errors by refits, for each candidate."""
    dimers = [Atoms("OH", [[0, 0, 0], [0, 0, x]]) for x in (0.97, 1.07)] + [Atoms("HH", [[0, 0, 0], [0, 0, x]]) for x in (0.7, 0.76)]  # fmt: skip
    pool, model = [*waters(3, seed=3), *dimers], regressor()
    moving = moving_environments(pool, SETTINGS)
    gram = model._gram(Side(moving, False), None)
    monkeypatch.setattr("so3ntk.molecules.forces.regressor.moving_environments", lambda *_: moving)
    monkeypatch.setattr(EnergyForceRegressor, "_gram", lambda *_: gram)
    for seed in range(4):
        y = np.random.default_rng(seed).normal(size=7)
        targets = Targets.of(y, moving.sizes, composition_basis(pool))
        candidates = relative_candidates(gram, targets)[0]
        losses = [rms(left_out(gram, targets, (noise,))) for noise in candidates]
        (found,) = np.flatnonzero(candidates == model.fit(pool, y).energy_noise_)
        assert losses[found] <= min(losses[max(0, found - 1) : found + 2]) * (1 + 1e-9)


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
    with pytest.raises(ValueError, match=r"energies of the shape \(8,\), one per molecule, got \(7,\)"):
        fit(TRAIN, energies[:7], forces)
    with pytest.raises(ValueError, match=r"8 arrays of shape \(atoms, 3\).* one array \(24, 3\).* got 7 arrays"):
        fit(TRAIN, energies, forces[:7])
    with pytest.raises(ValueError, match=r"got \(3, 2\) for molecule 4 of 3 atoms"):
        fit(TRAIN, energies, [f[:, :2] if i == 4 else f for i, f in enumerate(forces)])
    with pytest.raises(ValueError, match=r"forces of the shape \(24, 3\).* got \(72,\)"):
        fit(TRAIN, energies, np.ravel(forces))
    with pytest.raises(ValueError, match="forces hold NaN or infinity, first at atom 7"):
        fit(TRAIN, energies, np.where(np.arange(24)[:, None] == 7, np.nan, np.concatenate(forces)))
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
    for baseline in (CompositionBaseline().fit(TRAIN, np.zeros(8)), "yes", 1, None):
        with pytest.raises(TypeError, match=r"baseline to be True.* or False, got .*energies - reference\)"):
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
