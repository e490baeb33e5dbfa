"""Sizes that follow the data are rounded up: new molecules, and new neighbours in a simulation, compile next to nothing."""

import contextlib

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as g2

from so3ntk import Dense, Erf, Flatten, KernelRegressor, serial
from so3ntk.basics.shapes import rounded_up
from so3ntk.molecules import AtomSum, Calculator, EnergyForceRegressor, environments
from tests.molecules.springs import SETTINGS, small_network, springs, waters

EVENT = "/jax/core/compile/backend_compile_duration"
_programs = [0]


def _count(event, duration, fun_name=None, **_):
    _programs[0] += event == EVENT and fun_name != "jit(stage)"  # that copies an array to the device, in milliseconds


jax.monitoring.register_event_duration_secs_listener(_count)


@contextlib.contextmanager
def programs():
    """A list that holds, afterwards, how many programs were compiled."""
    found, before = [], _programs[0]
    yield found
    found.append(_programs[0] - before)


def test_the_counter_counts():
    with programs() as compiled:
        jax.jit(lambda x: x + 1.2345)(np.zeros(3))
    assert compiled[0] >= 1
    with programs() as compiled:
        pass
    assert compiled == [0]


def test_sizes():
    """Four for each doubling, at most a quarter too large."""
    sizes = [rounded_up(n, least=4) for n in range(1, 5000)]
    assert all(n <= size <= max(4, 1.25 * n) for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) == 4 * 10 + 2
    assert rounded_up(3, least=16) == 16
    assert [rounded_up(n, 4, coarse=64) for n in (5, 33, 64, 65)] == [8, 64, 64, 80]
    assert all(rounded_up(size, least=4) == size for size in sizes)


#: From 2 to 14 atoms, 2 to 182 pairs.
NAMES = ["HF", "H2O", "NH3", "CH4", "CH3OH", "C2H6", "CH3CHO", "CH3CH2OH", "CH3CONH2", "C6H6", "C3H8", "C4H10"]


@pytest.mark.parametrize("cutoff", [None, 3.0])
def test_environments_of_molecules_of_many_sizes(cutoff):
    """One program for up to 16 atoms."""
    molecules = [g2("isobutane" if name == "C4H10" else name) for name in NAMES]
    settings = {"powers": (1.5, 2.5), "bandlimit": 2, "cutoff": cutoff}  # of no other test
    environments(
        molecules[0], **(settings | {"powers": (1.25, 2.25)})
    )  # what a process compiles once, whichever test is first
    with programs() as compiled:
        each = [environments(molecule, **settings) for molecule in molecules]
    assert compiled[0] <= 6  # the profile's among them; it was ten for each molecule
    with programs() as compiled:
        for molecule in molecules:
            environments(molecule, **settings)
        environments(molecules[0] + Atoms("F", [[9.0, 9, 9]]), **settings)  # a size between two of them
    assert compiled == [0]
    together = environments(molecules, **settings).signal.coefficients
    apart = np.concatenate([x.signal.coefficients for x in each])
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-14 * np.abs(together).max())


def test_predictions_for_molecules_of_many_sizes():
    molecules = [g2(name) for name in NAMES[:-1]]
    net = serial(Flatten(), Dense(), Erf(), Dense(), AtomSum(match_species=True))
    x = environments(molecules, bandlimit=2)
    model = KernelRegressor(net, ridge=1e-3).fit(x, np.arange(len(x)))
    expected = model.predict(x)
    with programs() as compiled:
        found = np.concatenate([model.predict(x[i]) for i in range(len(x))])
    assert compiled[0] <= 12  # numbers of an element's atoms, rounded up to powers of two
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_simulation_with_a_cutoff():
    """A chain that is stretched: each step has other neighbours within the cutoff."""
    settings = {**SETTINGS, "cutoff": 3.0, "bandlimit": 2}
    train = waters(4, seed=0)
    model = EnergyForceRegressor(small_network(), environment=settings, energy_noise=1e-3, force_noise=1e-3)
    model.fit(train, *springs(train))
    atoms = Atoms("HOHOHOHO", [[1.0 * i, 0.1 * (i % 2), 0.05 * i] for i in range(8)])
    atoms.calc = Calculator(model)
    energies, neighbours = [], set()

    def step(stretch):
        atoms.set_positions(np.array([[stretch * i, 0.1 * (i % 2), 0.05 * i] for i in range(8)]))
        energies.append(atoms.get_potential_energy())
        distances = atoms.get_all_distances()
        neighbours.add(int(np.sum((distances < 3.0) & (distances > 0))))

    step(1.55)
    with programs() as compiled:
        for stretch in np.linspace(0.8, 2.2, 15):
            step(stretch)
    assert len(neighbours) >= 3
    assert compiled == [0]  # lists of pairs are filled up
    assert len(set(energies)) == len(energies)
