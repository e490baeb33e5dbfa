"""The calculator: units, energy conservation, relaxation."""

import importlib
import sys
import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.md.nptberendsen import NPTBerendsen
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from sklearn.exceptions import NotFittedError

import so3ntk
from so3ntk.molecules import Calculator, EnergyForceRegressor, Shells
from tests.molecules.metals import METAL, metals
from tests.molecules.springs import SETTINGS, small_network, springs, waters

KCAL = units.kcal / units.mol


@pytest.fixture(scope="module")
def model():
    """A model of water made of springs, in kcal/mol."""
    atoms = waters(8, seed=0)
    energies, forces = springs(atoms)
    return EnergyForceRegressor(small_network(), environment=SETTINGS).fit(atoms, energies, forces)


def test_results_are_in_electronvolts(model):
    water = waters(1, seed=9)[0]
    water.calc = Calculator(model, unit=KCAL)
    plain, expected = model.predict([water]), model.predict([water], return_std=True)
    assert water.get_potential_energy() == pytest.approx(plain.energies[0] * 0.0433641, rel=1e-6)
    np.testing.assert_allclose(water.get_forces(), plain.forces[0] * 0.0433641, rtol=1e-6)
    assert "energy_std" not in water.calc.results
    assert water.calc.get_property("energy_std", water) == pytest.approx(expected.energy_std[0] * KCAL)
    np.testing.assert_allclose(water.calc.results["force_std"], expected.force_std[0] * KCAL)
    with_std = Calculator(model, unit=KCAL, with_std=True)
    with_std.calculate(water)
    assert with_std.results["energy_std"] > 0
    # a geometry unlike any of training is uncertain
    far = water.copy()
    far.positions[1] *= 1.6
    assert Calculator(model).get_property("energy_std", far) > 3 * expected.energy_std[0]


@pytest.fixture(scope="module")
def methanol():
    """A model in eV of springs between all pairs of atoms, whose lengths are those of methanol at rest."""
    rest, rng = molecule("CH3OH"), np.random.default_rng(0)
    i, j = np.triu_indices(6, 1)
    lengths = np.linalg.norm(rest.positions[i] - rest.positions[j], axis=1)
    frames, energies, forces = [], [], []
    for _ in range(20):
        frame = rest.copy()
        frame.positions += 0.06 * rng.normal(size=(6, 3))
        vectors = frame.positions[j] - frame.positions[i]
        stretch = np.linalg.norm(vectors, axis=1) - lengths
        pull = 10.0 * (stretch / (stretch + lengths))[:, None] * vectors
        force = np.zeros((6, 3))
        np.add.at(force, i, pull)
        np.subtract.at(force, j, pull)
        frames.append(frame)
        energies.append(5.0 * stretch @ stretch)
        forces.append(force)
    environment = {"radial": Shells(4, width=0.1, growth=0.5), "bandlimit": 2, "species": ("H", "C", "O")}
    return EnergyForceRegressor(environment=environment, selection=8).fit(frames, energies, forces)


@pytest.mark.usefixtures("wrong_arguments")  # checking annotations takes half of the steps' time
def test_molecular_dynamics_conserves_energy(methanol):
    """A fifth of a picosecond at 300 K in steps of half a femtosecond: to half a meV for each atom, and without drift."""
    frame = molecule("CH3OH")
    frame.calc = Calculator(methanol)
    MaxwellBoltzmannDistribution(frame, temperature_K=300, rng=np.random.default_rng(0))
    Stationary(frame)
    ZeroRotation(frame)
    dynamics = VelocityVerlet(frame, timestep=0.5 * units.fs)
    totals, kinetic = [], []
    dynamics.attach(lambda: (totals.append(frame.get_total_energy()), kinetic.append(frame.get_kinetic_energy())))
    dynamics.run(400)
    assert np.ptp(kinetic) > 0.1  # something happens
    assert np.abs(np.array(totals) - totals[0]).max() < 3e-3
    assert abs(np.mean(totals[:200]) - np.mean(totals[200:])) < 3e-4


@pytest.fixture(scope="module")
def metal():
    frames, energies, forces, stresses = metals(16)
    return EnergyForceRegressor(environment=METAL, selection=8).fit(frames, energies, forces, stresses)


def test_a_cell_is_relaxed(metal):
    """To the lattice constant of EMT, whose frames the model was fitted to."""
    frame = bulk("Cu", cubic=True)
    frame.set_cell(frame.cell @ (np.eye(3) + 0.02 * np.array([[1, 0.5, 0], [0.5, -1, 0], [0, 0, 2]])), scale_atoms=True)
    frame.calc = Calculator(metal)
    assert BFGS(FrechetCellFilter(frame), logfile=None).run(fmax=0.01, steps=60)
    np.testing.assert_allclose(frame.get_stress(), 0, atol=2e-3)
    relaxed = frame.get_volume()
    frame.calc = EMT()
    assert BFGS(FrechetCellFilter(frame), logfile=None).run(fmax=0.01, steps=60)
    assert relaxed == pytest.approx(frame.get_volume(), rel=0.03)


def test_dynamics_at_a_pressure(metal):
    """A compressed crystal expands, and stays a crystal."""
    frame = bulk("Cu", cubic=True)
    frame.set_cell(0.99 * frame.cell, scale_atoms=True)
    frame.calc = Calculator(metal)
    MaxwellBoltzmannDistribution(frame, temperature_K=100, rng=np.random.default_rng(0))
    before, pressure = frame.get_volume(), -frame.get_stress()[:3].mean()
    assert pressure > 0
    NPTBerendsen(frame, 2 * units.fs, temperature_K=100, pressure_au=0.0, taut=50 * units.fs, taup=100 * units.fs,
                 compressibility_au=1.0).run(60)  # fmt: skip
    assert 1.005 * before < frame.get_volume() < 1.06 * before
    assert frame.get_all_distances(mic=True)[0, 1] == pytest.approx(2.55, abs=0.15)


def test_a_warning_of_what_is_unlike_the_training_set(model):
    water = waters(1, seed=9)[0]
    near, far = water.positions.copy(), water.positions.copy()
    far[1] *= 0.75
    spread = [np.linalg.norm(d, axis=1).max() * KCAL for d in model.predict(
        [Atoms("OHH", near), Atoms("OHH", far)], return_std=True).force_std]  # fmt: skip
    assert spread[1] > 1.2 * spread[0]
    water.calc = Calculator(model, unit=KCAL, warn_above=float(np.mean(spread)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        water.get_forces()
    water.positions = far
    with pytest.warns(UserWarning, match=r"the force on atom \d has a standard deviation of .* more than warn_above="):
        water.get_forces()
    water.positions[1] *= 0.99
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once
        water.get_forces()


def test_relaxation_finds_the_minimum(model):
    water = waters(1, seed=7)[0]
    water.calc = Calculator(model, unit=KCAL)
    before = water.get_potential_energy()
    assert BFGS(water, logfile=None).run(fmax=0.02, steps=40)
    assert np.linalg.norm(water.get_forces(), axis=1).max() <= 0.02
    assert water.get_potential_energy() < before - 0.01
    lengths = [water.get_distance(0, 1), water.get_distance(0, 2)]
    np.testing.assert_allclose(lengths, 0.97, atol=0.01)  # the springs' length


def test_without_ase(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ase"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "so3ntk.molecules.forces.calculator")
    with pytest.raises(ImportError, match=r"Calculator: needs ase, .*pip install -e '\.\[molecules\]' in the checkout"):
        importlib.import_module("so3ntk.molecules.forces.calculator")


def test_the_unit_that_a_model_says(model, tmp_path):
    so3ntk.save(model, tmp_path / "model", about={"unit": "kcal/mol"})
    water = waters(1, seed=9)[0]
    water.calc = Calculator(so3ntk.load(tmp_path / "model"))
    assert water.get_potential_energy() == pytest.approx(model.predict([water]).energies[0] * KCAL, rel=1e-6)
    so3ntk.save(model, tmp_path / "other", about={"unit": "Debye"})
    with pytest.raises(ValueError, match=r"the model is in 'Debye', which is no unit of energy \(eV, .*Pass unit"):
        Calculator(so3ntk.load(tmp_path / "other"))


def test_wrong_arguments(model):
    with pytest.raises(TypeError, match="fitted EnergyForceRegressor, got KernelRegressor"):
        Calculator(so3ntk.KernelRegressor())
    with pytest.raises(ValueError, match="unit of energy in eV, to be positive, got -1"):
        Calculator(model, unit=-1)
    with pytest.raises(TypeError, match="Calculator: expected with_std to be True or False, got 'no'"):
        Calculator(model, with_std="no")
    with pytest.raises(ValueError, match="warn_above, a standard deviation of forces in eV/Angstrom, to be positive"):
        Calculator(model, warn_above=-1)
    with pytest.raises(PropertyNotImplementedError, match=r"stress of a structure without a cell. Set atoms\.cell"):
        Calculator(model).get_property("stress", waters(1, seed=0)[0])
    with pytest.raises(NotFittedError):
        Calculator(EnergyForceRegressor()).calculate(Atoms("H"))
    with pytest.raises(ValueError, match="predict: molecule 0 holds F, which no training molecule did"):
        Calculator(model).calculate(Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]))
