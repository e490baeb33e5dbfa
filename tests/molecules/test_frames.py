"""``read_frames``: names, units, formats, isolated atoms, and what is refused."""

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.build import molecule as g2
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect

from so3ntk.molecules import Frames, read_forces, read_frames

KCAL = units.kcal / units.mol
NAMES = ("HCN", "H2O", "CH4")


def shaken(atoms, seed):
    """With energy, forces and, where there is a cell, stress of EMT."""
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    stress = {"stress": atoms.get_stress()} if atoms.pbc.all() else {}
    return atoms, energy, forces, stress


def molecules():
    """Structures without numbers, energies and forces."""
    made = [shaken(g2(name), seed) for seed, name in enumerate(NAMES)]
    for atoms, *_ in made:
        atoms.calc = None
    return [one[0] for one in made], np.array([one[1] for one in made]), [one[2] for one in made]


def named(path, energy, forces):
    """A file with numbers under these names, forces None for the second frame."""
    atoms, energies, by_atom = molecules()
    for row, frame in enumerate(atoms):
        frame.info[energy] = energies[row]
        if row != 1:
            frame.arrays[forces] = by_atom[row]
    ase.io.write(path, atoms, format="extxyz")
    return path


@pytest.mark.parametrize(
    ("energy", "forces"), [("REF_energy", "REF_forces"), ("dft_energy", "dft_force"), ("TOTAL_energy", "force")]
)
def test_names_that_programs_use(tmp_path, energy, forces):
    """Without being told; a frame without forces is one without forces."""
    expected, energies, by_atom = molecules()
    found = read_frames(named(tmp_path / "m.xyz", energy, forces))
    np.testing.assert_allclose(found.energies, energies, atol=1e-7)
    assert found.forces[1] is None
    for row in (0, 2):
        np.testing.assert_allclose(found.forces[row], by_atom[row], atol=1e-7)
        np.testing.assert_allclose(found.atoms[row].positions, expected[row].positions, atol=1e-7)
    assert found.stresses == [None] * 3
    assert found.keys == {"energy": energy, "forces": forces}
    assert f"3 frames of 11 atoms (C, H, N, O); energy of all ({energy}, eV); forces of 2 ({forces}, eV/A" in repr(
        found
    )


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "db", "json"])
def test_formats_of_ase_with_constraints_cells_and_stresses(tmp_path, suffix):
    """Forces of held atoms are those of the file; ase's own are zero there."""
    frame, energy, forces, stress = shaken(bulk("Cu", cubic=True), 0)
    copy = frame.copy()
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces, **stress)
    copy.set_constraint(FixAtoms([0]))
    assert abs(forces[0]).max() > 0.1
    assert not copy.get_forces()[0].any()
    ase.io.write(tmp_path / f"m.{suffix}", [copy, copy])
    found = read_frames([tmp_path / f"m.{suffix}"] * 2)
    assert len(found) == 4
    assert found.sources[3] == (str(tmp_path / f"m.{suffix}"), 1)
    np.testing.assert_allclose(found.forces[3], forces, atol=1e-7)
    xx, yy, zz, yz, xz, xy = stress["stress"]
    np.testing.assert_allclose(found.stresses[2], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], atol=1e-7)
    assert found.atoms[0].constraints == []
    assert found.atoms[0].calc is None


def test_databases_with_data_of_their_own(tmp_path):
    """As other programs write them: key-value pairs, and arrays as data."""
    atoms, energies, forces = molecules()
    with connect(tmp_path / "m.db") as database:
        for frame, energy, own in zip(atoms, energies, forces, strict=True):
            database.write(frame, ref_energy=energy, data={"dft_forces": own})
    found = read_frames(tmp_path / "m.db")
    np.testing.assert_allclose(found.energies, energies)
    np.testing.assert_allclose(found.forces[2], forces[2])


def test_units_of_length_and_virials(tmp_path):
    """A file in Hartree and Bohr with virials, minus volume times the stress, is the one in eV and Angstrom with stresses."""
    frame, energy, forces, _ = shaken(bulk("Cu", cubic=True), 0)
    full = frame.get_stress(voigt=False)
    atomic = Atoms(frame.numbers, frame.positions / units.Bohr, cell=frame.cell / units.Bohr, pbc=True)
    for name, value in (("virials", -frame.get_volume() * full / units.Hartree), ("stress", full)):
        atomic.info = {"dft_energy": energy / units.Hartree, name: value}
        if name == "stress":
            atomic.info[name] = full * units.Bohr**3 / units.Hartree
        atomic.arrays["dft_forces"] = forces * units.Bohr / units.Hartree
        ase.io.write(tmp_path / "bohr.xyz", atomic, format="extxyz")
        found = read_frames(tmp_path / "bohr.xyz", unit="Hartree", length_unit="Bohr")
        assert found.unit == "Hartree"
        assert found.energies[0] == pytest.approx(energy / units.Hartree)
        np.testing.assert_allclose(found.atoms[0].positions, frame.positions, atol=1e-6)
        np.testing.assert_allclose(found.atoms[0].cell, frame.cell, atol=1e-6)
        np.testing.assert_allclose(found.forces[0] * units.Hartree, forces, atol=1e-5)
        np.testing.assert_allclose(found.stresses[0] * units.Hartree, full, atol=1e-6)
        assert abs(full).max() > 1e-3
        assert read_frames(tmp_path / "bohr.xyz", stress_key=False, length_unit="Bohr").stresses == [None]


def test_candidates_that_differ_are_listed_and_can_be_named(tmp_path):
    atoms, energies, _ = molecules()
    for frame, energy in zip(atoms, energies, strict=True):
        frame.info |= {"REF_energy": energy, "energy": energy}
    ase.io.write(tmp_path / "m.xyz", atoms, format="extxyz")
    np.testing.assert_allclose(read_frames(tmp_path / "m.xyz").energies, energies, atol=1e-7)  # they agree
    atoms[2].info["REF_energy"] += 1e-3
    ase.io.write(tmp_path / "m.xyz", atoms, format="extxyz")
    with pytest.raises(
        ValueError, match=r"has energy, REF_energy \(in 3, 3 of 3 frames\), .*frame 2\. .* energy_key='e"
    ):
        read_frames(tmp_path / "m.xyz")
    found = read_frames(tmp_path / "m.xyz", energy_key="REF_energy")
    np.testing.assert_allclose(found.energies - energies, [0, 0, 1e-3], atol=1e-7)
    # half of the frames under one name, half under another: of one file that is not clear either
    del atoms[0].info["energy"], atoms[2].info["REF_energy"]
    ase.io.write(tmp_path / "m.xyz", atoms, format="extxyz")
    with pytest.raises(ValueError, match=r"has energy, REF_energy \(in 2, 2 of 3 frames\), .* not the same in frame 0"):
        read_frames(tmp_path / "m.xyz")


def test_isolated_atoms_are_no_frames(tmp_path):
    atoms, energies, _ = molecules()
    single = [Atoms("H", info={"energy": -13.6}), Atoms("O", cell=[9] * 3, pbc=True, info={"energy": -2042.0})]
    single[1].info["config_type"] = "IsolatedAtom"
    periodic = Atoms("C", cell=[3] * 3, pbc=True, info={"energy": -1.0})  # a crystal with one atom in its cell
    for frame, energy in zip(atoms, energies, strict=True):
        frame.info["energy"] = energy
    ase.io.write(tmp_path / "m.xyz", [*single, *atoms, periodic], format="extxyz")
    found = read_frames(tmp_path / "m.xyz")
    assert found.isolated == {"H": -13.6, "O": -2042.0}
    assert [len(frame) for frame in found.atoms] == [3, 3, 5, 1]
    assert found.sources[0][1] == 2
    assert "isolated atoms H, O" in found.counts()
    single[0].info["energy"] = -13.5
    ase.io.write(tmp_path / "other.xyz", single[0], format="extxyz")
    with pytest.raises(
        ValueError, match=r"of H have different energies, -13\.6 \(.*m.xyz, frame 0\) and -13.5 \(.*other"
    ):
        read_frames([tmp_path / "m.xyz", tmp_path / "other.xyz"])
    with pytest.raises(ValueError, match="isolated atoms alone"):
        read_frames(tmp_path / "other.xyz")


def test_selection_of_frames(tmp_path):
    found = read_frames(named(tmp_path / "m.xyz", "energy", "forces"))
    for index, rows in ((slice(1, 3), [1, 2]), ([2, 0], [2, 0]), (1, [1]), (np.array([True, False, True]), [0, 2])):
        chosen = found[index]
        assert isinstance(chosen, Frames)
        assert len(chosen) == len(rows)
        assert chosen.energies.tolist() == found.energies[rows].tolist()
        assert [one is None for one in chosen.forces] == [row == 1 for row in rows]
        assert [source[1] for source in chosen.sources] == rows
    with pytest.raises(IndexError):
        found[3]


def save_kinds(folder, n=3):
    """The same frames of HCN as the three kinds of npz files, in kcal/mol."""
    made = [shaken(g2("HCN"), seed) for seed in range(n)]
    numbers, positions = made[0][0].numbers, np.array([one[0].positions for one in made])
    energies, forces = np.array([one[1] for one in made]) / KCAL, np.array([one[2] for one in made]) / KCAL
    np.savez(folder / "rmd17.npz", nuclear_charges=numbers, coords=positions, energies=energies, forces=forces)
    np.savez(folder / "md17.npz", z=numbers, R=positions, E=energies[:, None], F=forces, name="HCN")
    flat = {"Z": np.tile(numbers, n), "R": positions.reshape(-1, 3), "F": forces.reshape(-1, 3), "e_at": energies,
            "offsets": 3 * np.arange(n + 1)}  # fmt: skip
    np.savez(folder / "packed.npz", **flat)
    parts = {f"{name}_{part}": value for name, value in flat.items() for part in ("train", "valid")}
    np.savez(folder / "parts.npz", **parts | {"e_at_valid": energies + 1})
    return made


def test_npz_files_state_their_unit(tmp_path):
    made = save_kinds(tmp_path)
    for name, part, shift in (("rmd17", None, 0), ("md17", None, 0), ("packed", None, 0), ("parts", "valid", 1)):
        for unit, size in (("eV", 1.0), ("kcal/mol", KCAL)):
            found = read_frames(tmp_path / f"{name}.npz", unit=unit, part=part)
            np.testing.assert_allclose(found.energies * size, [one[1] + shift * KCAL for one in made], rtol=1e-6)
            np.testing.assert_allclose(found.forces[2] * size, made[2][2], rtol=1e-6, atol=1e-9)
            np.testing.assert_array_equal(found.atoms[2].positions, made[2][0].positions)
            assert found.atoms[1].get_chemical_formula() == "CHN"
    assert read_frames(tmp_path / "rmd17.npz", forces_key=False).forces == [None] * 3
    with pytest.raises(ValueError, match=r"has the parts train, valid, and none was asked for\. Say which with part\."):
        read_frames(tmp_path / "parts.npz")
    with pytest.raises(ValueError, match="there is none called 'test'"):
        read_frames(tmp_path / "parts.npz", part="test")
    with pytest.raises(ValueError, match=r"no parts, got 'train'"):
        read_frames(tmp_path / "md17.npz", part="train")
    with pytest.raises(ValueError, match=r"kcal/mol, and 'other' is no unit .* unit as one of eV"):
        read_frames(tmp_path / "md17.npz", unit="other")
    with pytest.raises(ValueError, match=r"has no 'e_tot_train'; it has Z, R, F, e_at, offsets\. .* as energy_key"):
        read_frames(tmp_path / "parts.npz", energy_key="e_tot", part="train")


def test_npz_files_that_contradict_themselves(tmp_path):
    save_kinds(tmp_path)
    arrays = dict(np.load(tmp_path / "rmd17.npz"))
    nan = arrays["forces"].copy()
    nan[1, 0, 0] = np.nan
    for name, value, message in (
        ("forces", arrays["forces"][:2], r"forces: expected the shape \(3, 3, 3\) .* other frames\?"),
        ("forces", nan, "forces holds NaN or infinity, first in row 3"),
        ("energies", arrays["energies"][:2], "expected energies for 3 molecules"),
        ("energies", arrays["energies"] * np.nan, "energies holds NaN"),
        ("coords", arrays["coords"][:, :2], r"coords: expected the shape \(3, 3, 3\)"),
        ("nuclear_charges", arrays["nuclear_charges"] + 0.5, "expected integers Z"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays | {name: value})
        with pytest.raises(ValueError, match=message):
            read_frames(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", images=np.zeros(3))
    with pytest.raises(ValueError, match=r"bad\.npz holds images, and none of the sets of arrays that are known: nuc"):
        read_frames(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes((tmp_path / "rmd17.npz").read_bytes()[:300])
    with pytest.raises(ValueError, match="not a readable npz archive"):
        read_frames(tmp_path / "bad.npz")


QM9_FRAME = """3
gdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t-76.404702\t-76.401867\t-76.400922\t-76.422349\t6.002\t
O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706
H\t 0.0647664923\t 0.0205721989\t 1.5346341*^-3\t 0.294853
H\t 0.8717903737\t 1.3007924048\t 0.0006931336\t 0.294853
1671.4222\t3803.6305\t3907.698
O\tO
InChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2
"""


def test_files_of_qm9_are_converted(tmp_path):
    (tmp_path / "dsgdb9nsd_000003.xyz").write_text(QM9_FRAME)
    for unit, size in (("eV", 1.0), ("kcal/mol", KCAL), ("Hartree", units.Hartree)):
        found = read_frames(tmp_path / "dsgdb9nsd_000003.xyz", energy_key="U0", unit=unit)
        assert found.energies[0] * size == pytest.approx(-76.404702 * units.Hartree, rel=1e-6)
    assert read_frames(tmp_path / "dsgdb9nsd_000003.xyz", energy_key="mu", unit="Debye").energies == [1.8511]
    with pytest.raises(ValueError, match=r"no frame has one of energy, ref_energy.* they have A, .*U0.*as energy_key"):
        read_frames(tmp_path / "dsgdb9nsd_000003.xyz")


def test_wrong_numbers_name_file_and_frame(tmp_path):
    def refused(message, change, **options):
        atoms, energies, forces = molecules()
        for frame, energy, own in zip(atoms, energies, forces, strict=True):
            frame.info |= {"E": energy, "forces": own}  # arrays of other names are not kept in such files
        change(atoms[1])
        ase.io.write(tmp_path / "m.traj", atoms)
        with pytest.raises(ValueError, match=rf"read_frames: .*m\.traj, frame {message}"):
            read_frames(tmp_path / "m.traj", energy_key="E", **options)

    def set_(**values):
        return lambda frame: frame.info.update(values)

    refused(r"1: the forces 'G' hold NaN or infinity, first at \(2, 1\)", set_(G=[[0, 0, 0]] * 2 + [[0, np.nan, 0]]),
            forces_key="G")  # fmt: skip
    refused(
        r"1: expected the forces 'G' to have the shape \(3, 3\).* another frame\?",
        set_(G=np.zeros((4, 3))),
        forces_key="G",
    )
    refused("1: expected 'E' to be a finite number, got nan", set_(E=np.nan))
    refused("1: expected 'E' to be a finite number, got .*1", set_(E=np.ones(3)))
    refused(r"1 has a 'stress', but no periodic cell \(pbc .* by stress_key=False", set_(stress=np.zeros(6)))
    refused(r"0 has no 'S'; of six or nine numbers it has forces \(stress_key\)", set_(), stress_key="S")
    refused(r"0 has no 'gradient'; it has the arrays \(atoms, 3\) forces\. Pass one of these as forces_key", set_(),
            forces_key="gradient")  # fmt: skip

    def crystal(stress):
        def change(frame):
            frame.info["stress"] = np.array(stress)
            frame.set_cell([5] * 3)
            frame.pbc = True

        return change

    refused("1: expected 'stress' to be symmetric", crystal([[1, 2, 0], [0, 1, 0], [0, 0, 1]]))
    refused(r"1: expected 'stress' to be a matrix \(3, 3\)", crystal([1, 2]))
    with pytest.raises(FileNotFoundError, match=r"read_frames: there is no file .*none\.xyz"):
        read_frames(tmp_path / "none.xyz")
    with pytest.raises(ValueError, match="at least one file"):
        read_frames([])
    with pytest.raises(ValueError, match="length_unit"):
        read_frames(tmp_path / "m.traj", length_unit="nm")


def test_the_same_as_read_forces(tmp_path):
    """Where every frame has both."""
    atoms, energies, forces = molecules()
    for frame, energy, own in zip(atoms, energies, forces, strict=True):
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=own)
    ase.io.write(tmp_path / "m.extxyz", atoms)
    one, other = (
        read_frames(tmp_path / "m.extxyz", unit="kcal/mol"),
        read_forces(tmp_path / "m.extxyz", unit="kcal/mol"),
    )
    assert (one.unit, one.energies.tolist()) == (other.unit, other.energies.tolist())
    for a, b in zip(one.forces, other.forces, strict=True):
        np.testing.assert_array_equal(a, b)
