"""The calculator: units, energy conservation, relaxation."""

import importlib
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from sklearn.exceptions import NotFittedError

import so3ntk
from so3ntk.molecules import Calculator, EnergyForceRegressor
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


def test_molecular_dynamics_conserves_energy(model):
    water = waters(1, seed=5, amplitude=0.0)[0]
    water.calc = Calculator(model, unit=KCAL)
    MaxwellBoltzmannDistribution(water, temperature_K=300, rng=np.random.default_rng(0))
    Stationary(water)
    dynamics = VelocityVerlet(water, timestep=0.5 * units.fs)
    totals, kinetic = [], []
    for _ in range(60):  # 30 fs: three periods of the stiffest spring
        dynamics.run(1)
        totals.append(water.get_total_energy())
        kinetic.append(water.get_kinetic_energy())
    assert np.ptp(kinetic) > 0.2 * np.max(kinetic)  # something happens
    # velocity Verlet: (omega dt)^2 / 8 of the energy, to and fro, and no drift
    assert np.ptp(totals) < 0.02 * np.max(kinetic)
    halves = np.mean(totals[:30]), np.mean(totals[30:])
    assert abs(halves[1] - halves[0]) < 0.005 * np.max(kinetic)


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


def test_wrong_arguments(model):
    with pytest.raises(TypeError, match="fitted EnergyForceRegressor, got KernelRegressor"):
        Calculator(so3ntk.KernelRegressor())
    with pytest.raises(ValueError, match="unit of energy in eV, to be positive, got -1"):
        Calculator(model, unit=-1)
    with pytest.raises(TypeError, match="Calculator: expected with_std to be True or False, got 'no'"):
        Calculator(model, with_std="no")
    with pytest.raises(NotFittedError):
        Calculator(EnergyForceRegressor()).calculate(Atoms("H"))
    with pytest.raises(ValueError, match="predict: molecule 0 holds F, which no training molecule did"):
        Calculator(model).calculate(Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]))
