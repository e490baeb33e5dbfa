"""Forces against energies, and lengths against elements: signs and units that are wrong are named, and right ones are not."""

import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT

from so3ntk import random_rotations
from so3ntk.molecules import check_forces
from so3ntk.molecules.forces.consistency import check_distances
from tests.molecules.springs import springs, waters

WATERS = waters(12, seed=0, amplitude=0.04)
KCAL = units.kcal / units.mol


def turned(atoms, forces):
    """Each molecule and its forces turned and moved at random."""
    rotations = random_rotations(len(atoms), seed=1)
    moved = [Atoms(a.numbers, r.apply(a.positions) + 3.0) for a, r in zip(atoms, rotations, strict=True)]
    return moved, [r.apply(f) for f, r in zip(forces, rotations, strict=True)]


def crystals(n=8):
    """Copper at some hundred kelvin, atoms folded into the cell: energies in eV and forces of ase's effective medium."""
    rng, frames, energies, forces = np.random.default_rng(0), [], [], []
    for _ in range(n):
        frame = bulk("Cu", cubic=True) * (2, 1, 1)
        frame.positions += rng.normal(scale=0.04, size=frame.positions.shape) + rng.normal(size=3)
        frame.wrap()
        frame.calc = EMT()
        energies.append(frame.get_potential_energy())
        forces.append(frame.get_forces())
        frames.append(frame)
    return frames, np.array(energies), forces


@pytest.mark.parametrize("case", ["as they are", "turned", "periodic", "of two kinds"])
def test_right_ones_pass(case):
    atoms, (energies, forces) = WATERS, springs(WATERS)
    if case == "turned":
        atoms, forces = turned(atoms, forces)
    if case == "periodic":
        atoms, energies, forces = crystals()
    if case == "of two kinds":  # an element's reference energy is in one of them alone, and must not matter
        atoms, forces = [*atoms, Atoms("HHO", atoms[0].positions[[1, 2, 0]])], [*forces, forces[0][[1, 2, 0]]]
        energies = np.append(energies, 1e4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = check_forces(atoms, energies, forces)
    assert found.pairs >= 8
    assert 0.85 < found.low <= found.factor <= found.high < 1.15
    assert found.factor == pytest.approx(1, abs=0.05)
    if case == "as they are":
        assert found == check_forces(atoms, energies, np.concatenate(forces))


#: What is done to energies (kcal/mol), positions (Angstrom) and forces; the factor; and what is said of it.
MISTAKES = [
    (1, 1, -1, -1, r"wrong sign \(they are gradients\): multiply the forces by -1\."),
    (1, 1, KCAL / units.Hartree, 627.509, r"energies are in kcal/mol and forces in Hartree: multiply the forces by 627\.5"),
    (KCAL, 1, 1, 0.0433641, r"energies are in eV and forces in kcal/mol: multiply the forces by 0\.0433641"),
    (KCAL / units.Hartree * 27.2114, 1, KCAL / units.Hartree, 27.2114, r"energies are in eV and forces in Hartree: .* 27\.2114"),
    (1, 1, KCAL, 23.0605, r"energies are in kcal/mol and forces in eV: multiply the forces by 23\.06"),
    (1, 1, units.Bohr, 1 / units.Bohr, r"forces are per Bohr: multiply the forces by 1\.88973"),
    (1, 1 / units.Bohr, 1, units.Bohr, r"positions are in Bohr: multiply the positions by 0\.529177\."),
    (1, 0.1, 1, 10, r"positions are in nm: multiply the positions by 10\."),
    (1, 1, -KCAL, -23.0605, r"wrong sign .* and energies are in kcal/mol and forces in eV: multiply the forces by -23\.06"),
    (1, 1, 1 / 3.3, 3.3, r"No sign or unit explains that"),
    (1, 1, 0, np.inf, r"The forces are zero"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.* (bonds of hydrogen|nearer than 0.4)")  # they are said as well
@pytest.mark.parametrize(("energy", "length", "force", "factor", "message"), MISTAKES)
def test_mistakes_are_named(energy, length, force, factor, message):
    energies, forces = springs(WATERS)
    atoms = [Atoms(a.numbers, length * a.positions) for a in WATERS]
    with pytest.warns(UserWarning, match=message) as caught:
        found = check_forces(atoms, energy * energies, [force * f for f in forces])
    assert found.factor == pytest.approx(factor, rel=0.03)
    (own,) = [w for w in caught if "do not belong together" in str(w.message)]
    assert own.filename == __file__
    assert str(own.message).startswith("check_forces: ")


@pytest.mark.parametrize(("energy", "length", "force", "factor", "message"), MISTAKES[:9])
def test_the_remedy_works(energy, length, force, factor, message):
    energies, forces = springs(WATERS)
    atoms = [Atoms(a.numbers, length * a.positions) for a in WATERS]
    forces = [force * f for f in forces]
    with pytest.warns(UserWarning, match="multiply") as caught:
        check_forces(atoms, energy * energies, forces)
    remedy = str(caught[-1].message).split("multiply ")[-1].rstrip(".")
    for part in remedy.split(" and "):
        what, scale = part.split(" by ")
        if what == "the positions":
            atoms = [Atoms(a.numbers, float(scale) * a.positions) for a in atoms]
        else:
            assert what == "the forces"
            forces = [float(scale) * f for f in forces]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_forces(atoms, energy * energies, forces).factor == pytest.approx(1, abs=0.05)


def test_what_cannot_be_told():
    """Molecules of one frame each, other isomers, and atoms in another order say nothing, whatever the forces."""
    energies, forces = springs(WATERS)
    isomers = [Atoms("OHH", a.positions * scale) for a, scale in zip(WATERS, (0.5, 1.0, 2.0), strict=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for atoms in (WATERS[:1], [WATERS[0], Atoms("HHO", WATERS[0].positions[[1, 2, 0]])], isomers):
            found = check_forces(atoms, energies[: len(atoms)], [-f for f in forces[: len(atoms)]])
            assert found.pairs == 0
            assert np.isnan(found.factor)
        few = check_forces(WATERS[:2], energies[:2], [-f for f in forces[:2]])  # one pair is no evidence
    assert few.pairs == 1
    with pytest.raises(ValueError, match=r"expected energies of the shape \(12,\)"):
        check_forces(WATERS, energies[:3], forces)


def test_distances():
    good = [Atoms("OHH", [[0, 0, 0], [0, 0, 0.96], [0.93, 0, -0.24]]), Atoms("H", [[0.0, 0, 0]]), bulk("Cu", cubic=True),
            Atoms("PdH", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4.09] * 3, pbc=True)]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_distances(good, "here")
    nanometres = [Atoms(a.numbers, 0.1 * a.positions) for a in good[:1]]
    with pytest.warns(
        UserWarning, match=r"here: molecule 1, atom 0, and molecule 1, atom 1, are 0\.096 .* so are 3 pairs"
    ):
        check_distances([good[1], *nanometres], "here")
    folded = Atoms("Cu2", [[0, 0, 0.1], [0, 0, 3.9]], cell=[4, 4, 4], pbc=True)
    with pytest.warns(UserWarning, match="are 0.2 Angstrom apart, nearer than 0.4, and so are 1 pairs"):
        check_distances([folded], "here")
    bohr = [Atoms(a.numbers, a.positions / units.Bohr) for a in good[:1]]
    with pytest.warns(UserWarning, match=r"hydrogen are 1\.8\d times .* multiply the positions by 0\.529177"):
        check_distances(bohr, "here")
