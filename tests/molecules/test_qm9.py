import importlib.util
import pickle
import sys
import warnings

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as g2
from ase.units import Hartree

from so3ntk.molecules import load_qm9
from so3ntk.molecules.datasets import qm9
from so3ntk.molecules.datasets.archive import read_archive, write_archive

HEADER = (
    "XYZ_file,Index,SMILES,InChi,N_atoms,Stoichiometry,Elements,XYZ_Ang,Mulliken_pop,Harmonic_Freq_cmi,"
    "RotA_GHz,RotB_GHz,RotC_GHz,Dipole_debye,Polarizability_bohr3,HOMO_au,LUMO_au,HOMO_LUMO_gap_au,R2_bohr2,"
    "ZPVE_au,InternalEnergy_0K_au,InternalEnergy_298K_au,Enthalphy_298K_au,GibbsFreeEnergy_298K_au,"
    "Heatcapacity_Cv_cal_mol_K"
)
#: The last twelve columns of the header: names of the targets, and values.
NAMES = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U298", "H298", "G298", "Cv")
NUMBERS = (
    0.5,
    13.21,
    -0.3877,
    0.1171,
    0.5048,
    35.3641,
    0.044749,
    -40.47893,
    -40.476062,
    -40.475117,
    -40.498597,
    6.469,
)
HARTREES = ("U0", "U298", "H298", "G298", "homo", "lumo", "gap", "zpve")


def row(index, atoms):
    """A line in the style of qm9pack: quoted lists, floats such as 0., energies shifted by the index."""
    elements = "[" + ",".join(f"'{symbol}'" for symbol in atoms.get_chemical_symbols()) + "]"
    positions = "[" + ",".join(f"[{x:.10g},{y:.10g},{z:.10g}]" for x, y, z in atoms.positions) + "]"
    positions = positions.replace("[0,", "[0.,")
    values = ",".join(repr(value + 0.001 * index) for value in NUMBERS)
    return (
        f'"dsgdb9nsd_{index:06d}.xyz",{index},"C,{index}","InChI=1S/CH4/h1H4",{len(atoms)},"[4,1,0,0,0]",'
        f'"{elements}","{positions}","[-0.5,0.1]","[1341.307]",157.7,157.7,157.7,{values}'
    )


STRUCTURES = [g2(name) for name in ("CH4", "HCN", "H2O", "CH3CH2OH", "CF4", "NH3", "HF", "CO2")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Eight molecules in three files, indices 1, 3, 5, ...; blank lines, CRLF, no last newline; a decoy."""
    monkeypatch.setenv("SO3NTK_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    rows = [row(2 * k + 1, atoms) for k, atoms in enumerate(STRUCTURES)]
    (data / "qm9_part1.csv").write_text("\n".join([HEADER, *rows[:3]]))
    (data / "qm9_part2.csv").write_bytes("\r\n".join([HEADER, *rows[3:6], ""]).encode())
    (data / "qm9_part3.csv").write_text("\n".join([HEADER, rows[6], "", rows[7], ""]))
    (data / "qm9_polarizability.csv").write_text("XYZ_file,A_xx\nx,1\n")
    return data


def test_all_molecules_in_order(folder):
    data = load_qm9(path=folder)
    assert data.index.tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    for ours, expected in zip(data.atoms, STRUCTURES, strict=True):
        np.testing.assert_array_equal(ours.numbers, expected.numbers)
        np.testing.assert_allclose(ours.positions, expected.positions, atol=1e-9)
    assert data.atoms[2].info["smiles"] == "C,5"
    assert (data.target, data.unit, len(data)) == ("U0", "eV", 8)


@pytest.mark.parametrize("target", NAMES)
def test_targets_and_units(folder, target):
    data = load_qm9(path=folder, target=target)
    expected = NUMBERS[NAMES.index(target)] + 0.001 * data.index
    np.testing.assert_allclose(data.targets, expected * (Hartree if target in HARTREES else 1), rtol=1e-14)
    assert data.targets.dtype == np.float64
    assert (data.unit == "eV") == (target in HARTREES)


def test_sample_is_seeded_nested_and_from_all_files(folder):
    seven = load_qm9(7, seed=3, path=folder)
    assert len(set(seven.index)) == 7
    assert load_qm9(7, seed=3, path=folder, cache=False).index.tolist() == seven.index.tolist()
    assert load_qm9(4, seed=3, path=folder).index.tolist() == seven.index[:4].tolist()
    assert load_qm9(7, seed=4, path=folder).index.tolist() != seven.index.tolist()
    for index, atoms, target in zip(seven.index, seven.atoms, seven.targets, strict=True):
        np.testing.assert_array_equal(atoms.numbers, STRUCTURES[index // 2].numbers)
        assert target == pytest.approx((-40.47893 + 0.001 * index) * Hartree, rel=1e-14)
    drawn = [index for seed in range(200) for index in load_qm9(2, seed=seed, path=folder, cache=False).index]
    counts = np.bincount(drawn, minlength=16)[1::2]
    assert abs(counts - 50).max() < 5 * np.sqrt(50)  # 400 draws of eight molecules


def test_cache_is_used_and_rebuilt(folder, tmp_path, monkeypatch):
    first = load_qm9(5, path=folder, target="gap")
    (cached,) = (tmp_path / "cache").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(qm9, "_parse_files", None)  # what calls it now fails
        again = load_qm9(5, path=folder, target="gap")
        other = load_qm9(5, path=folder, target="mu")
        with pytest.raises(TypeError):
            load_qm9(5, seed=1, path=folder)
    np.testing.assert_array_equal(again.targets, first.targets)
    assert [a.info for a in again.atoms] == [a.info for a in first.atoms]
    assert all(a == b for a, b in zip(again.atoms, first.atoms, strict=True))
    assert other.target == "mu"
    whole = cached.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nonsense", pickle.dumps({})):
        cached.write_bytes(damaged)
        np.testing.assert_array_equal(load_qm9(5, path=folder, target="gap").targets, first.targets)
        read_archive(cached, qm9.TARGETS)  # it is sound again
    np.savez(cached, Z=np.array([1]), R=np.zeros((1, 3)), offsets=np.array([0, 1]))  # sound, but not ours
    np.testing.assert_array_equal(load_qm9(5, path=folder, target="gap").targets, first.targets)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # no temporary files are left


def test_changed_files_are_parsed_again(folder):
    load_qm9(path=folder)
    (folder / "qm9_part3.csv").write_text("\n".join([HEADER, row(99, g2("HF"))]))
    assert load_qm9(path=folder).index.tolist() == [1, 3, 5, 7, 9, 11, 99]


def test_cache_that_cannot_be_written(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SO3NTK_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match=r"cannot write the cache .*Set SO3NTK_CACHE to a .*, or pass cache=False\."):
        assert len(load_qm9(3, path=folder)) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_qm9(3, path=folder, cache=False)) == 3
        monkeypatch.setenv("SO3NTK_CACHE", str(tmp_path / "writable"))
        assert len(load_qm9(3, path=folder)) == 3


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda file, **columns: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_archive(tmp_path / "a.npz", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [9, 10**9])
def test_more_than_exist(folder, n):
    with pytest.raises(
        ValueError, match=rf"{n} molecules were asked for, but there are 8\. Pass n=None for all of them\."
    ):
        load_qm9(n, path=folder)
    assert len(load_qm9(None, path=folder)) == 8


@pytest.mark.parametrize("n", [0, -1, True])
def test_wrong_n(folder, n):
    with pytest.raises(ValueError, match="positive integer"):
        load_qm9(n, path=folder)


def test_unknown_target(folder):
    with pytest.raises(ValueError, match="unknown target 'energy'; there are U0, U298"):
        load_qm9(path=folder, target="energy")


def test_broken_csv(folder):
    file = folder / "qm9_part2.csv"
    whole = file.read_text()
    file.write_text(whole[:-100])
    with pytest.raises(ValueError, match=r"load_qm9: .*qm9_part2\.csv, line 4: expected 25 fields or more.*truncated"):
        load_qm9(path=folder)
    for old, new, message in [
        ("'F']", "'Qq']", r"cannot read Z from .*'Qq' is neither the symbol of a chemical element"),
        ("'F']", "'D']", r"cannot read Z from .*'D' is deuterium"),
        ("'F']", "'F','F']", r"expected a position for each of 6 atoms, got 5"),
        (
            "0.767436,0.767436,0.767436",
            "0.767436,0.767436",
            r"cannot read R from .*three coordinates for each atom, got 14",
        ),
        (repr(0.5 + 0.001 * 9), "x", r"cannot read mu from 'x': 'x' is not a number"),
        (',9,"C,9"', ',nine,"C,9"', r"cannot read index from 'nine'"),
    ]:
        assert old in whole
        file.write_text(whole.replace(old, new))
        with pytest.raises(ValueError, match=rf"load_qm9: .*qm9_part2\.csv, line 3: {message}"):
            load_qm9(path=folder)
    file.write_bytes(whole.encode().replace(b"C,9", b"\xff,9"))
    with pytest.raises(ValueError, match=r"qm9_part2\.csv, line 3: no line of a CSV file in UTF-8"):
        load_qm9(path=folder)
    file.write_text(whole.replace("XYZ_Ang", "XYZ"))
    with pytest.raises(ValueError, match="lacks the columns XYZ_Ang"):
        load_qm9(path=folder)
    file.write_text("")
    with pytest.raises(ValueError, match=r"qm9_part2.csv lacks the columns Index"):
        load_qm9(path=folder)
    file.write_text(whole.replace(repr(-40.47893 + 0.001 * 9), "nan"))
    with pytest.raises(ValueError, match="the U0 of molecule 9 is NaN"):
        load_qm9(path=folder)
    assert load_qm9(path=folder, target="mu").targets[4] == pytest.approx(0.509)


def test_csv_of_other_programs(folder):
    """A byte-order mark, exponents of Mathematica and Fortran, atomic numbers: the same molecules."""
    file = folder / "qm9_part2.csv"
    expected = load_qm9(path=folder, target="mu", cache=False)
    text = file.read_text().replace("0.767436,", "7.67436*^-1,").replace("0.509", "5.09D-1").replace("'F'", "9")
    file.write_text("\ufeff" + text.replace("XYZ_file,Index", "Index").replace('"dsgdb9nsd', '"x').replace('"x_', "").replace(
        '000007.xyz",', "").replace('000009.xyz",', "").replace('000011.xyz",', ""))  # fmt: skip
    found = load_qm9(path=folder, target="mu", cache=False)
    np.testing.assert_array_equal(found.targets, expected.targets)
    assert found.index.tolist() == expected.index.tolist()
    assert all(a == b for a, b in zip(found.atoms, expected.atoms, strict=True))


def test_folder_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no files qm9_part"):
        load_qm9(path=tmp_path)


@pytest.fixture
def archive(tmp_path):
    """A sound archive of four molecules, as a dictionary and as a file."""
    structures = STRUCTURES[:4]
    columns = {
        "Z": np.concatenate([a.numbers for a in structures]),
        "R": np.concatenate([a.positions for a in structures]),
        "offsets": np.cumsum([0, *(len(a) for a in structures)]),
        "U0": np.array([-40.0, -93.0, -76.0, -155.0]),
        "mu": np.array([0.0, 3.0, 1.8, 1.7]),
        "index": np.array([5, 6, 7, 9]),
    }
    np.savez(tmp_path / "molecules.npz", **columns)
    return columns, tmp_path / "molecules.npz"


def test_archive(archive):
    columns, path = archive
    data = load_qm9(path=path)
    np.testing.assert_allclose(data.targets, columns["U0"] * Hartree, rtol=1e-15)
    assert data.index.tolist() == [5, 6, 7, 9]
    assert all(a == b for a, b in zip(data.atoms, (Atoms(s.numbers, s.positions) for s in STRUCTURES), strict=False))
    three = load_qm9(3, seed=1, path=path, target="mu")
    rows = np.searchsorted(columns["index"], three.index)
    np.testing.assert_array_equal(three.targets, columns["mu"][rows])
    for atoms, which in zip(three.atoms, rows, strict=True):
        np.testing.assert_array_equal(atoms.positions, STRUCTURES[which].positions)
    with pytest.raises(ValueError, match="has no target 'gap'; it has U0, mu"):
        load_qm9(path=path, target="gap")
    with pytest.raises(ValueError, match="5 molecules were asked for, but there are 4"):
        load_qm9(5, path=path)


def test_archive_without_indices(archive):
    columns, path = archive
    np.savez(path, **{name: array for name, array in columns.items() if name != "index"})
    assert load_qm9(path=path).index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": None}, "lacks the arrays offsets"),
        ({"R": np.zeros((3, 3))}, "R has the shape"),
        ({"R": np.zeros((20, 3), int)}, "floats R"),
        ({"Z": np.ones(20)}, "integers Z"),
        ({"offsets": np.array([0, 5, 5, 11, 20])}, "an atom or more per molecule"),
        ({"offsets": np.array([0, 5, 8, 11, 30])}, "rise from 0 to the 20 atoms"),
        ({"offsets": np.array([0, 8, 5, 11, 20])}, "rise from 0"),
        ({"U0": np.zeros(3)}, "U0 for 4 molecules"),
        ({"U0": np.array([0, np.nan, 0, 0])}, "U0 of molecule 6 is NaN"),
        (
            {"R": np.where(np.arange(60).reshape(20, 3) == 19, np.nan, 1.0)},
            "molecule 1 has coordinates that are NaN",
        ),
        ({"U0": np.array([None, 1, 2, 3])}, "pickled objects, which are not loaded"),
        ({"U0": np.array(["a", "b", "c", "d"])}, "U0 to hold numbers"),
        ({"index": np.array(["a", "b", "c", "d"])}, "index to hold integers"),
    ],
)
def test_contradictory_archive(archive, changes, message):
    columns, path = archive
    np.savez(path, **{name: array for name, array in (columns | changes).items() if array is not None})
    with pytest.raises(ValueError, match=message):
        load_qm9(path=path)


def test_truncated_and_damaged_archives(archive):
    _, path = archive
    whole, expected = path.read_bytes(), load_qm9(path=path)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged or truncated|lacks the arrays|pickled"):
            load_qm9(path=path)
    rng = np.random.default_rng(0)
    for position in rng.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            data = load_qm9(path=path)
        except ValueError:
            continue
        np.testing.assert_array_equal(data.targets, expected.targets)  # a bit that nothing depends on


class Explosive:
    def __reduce__(self):
        return (sys.exit, ("a pickle was executed",))


def test_pickles_are_not_executed(archive):
    columns, path = archive
    path.write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ValueError, match="pickled objects, which are not loaded"):
        load_qm9(path=path)
    explosive = np.empty(4, object)
    explosive[:] = [Explosive() for _ in range(4)]
    np.savez(path, **(columns | {"smiles": explosive}))
    with pytest.raises(ValueError, match="pickled objects, which are not loaded"):
        load_qm9(path=path)


def test_missing_files(tmp_path):
    for name in ("no.npz", "no.xyz"):
        with pytest.raises(FileNotFoundError, match=name):
            load_qm9(path=tmp_path / name)


def test_file_of_ase(tmp_path):
    frames = [a.copy() for a in STRUCTURES]
    for k, atoms in enumerate(frames):
        atoms.info = {"U0": -1.5 * k, "name": "x"}
    ase.io.write(tmp_path / "m.extxyz", frames)
    data = load_qm9(5, seed=0, path=tmp_path / "m.extxyz")
    np.testing.assert_allclose(data.targets, -1.5 * data.index)
    assert (data.unit, data.target) == ("eV", "U0")
    for atoms, which in zip(data.atoms, data.index, strict=True):
        np.testing.assert_array_equal(atoms.numbers, STRUCTURES[which].numbers)


def test_missing_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[molecules\]' in the checkout.*path="):
        load_qm9(3)


@pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="qm9pack is not installed")
def test_installed_package(tmp_path, monkeypatch):
    monkeypatch.setenv("SO3NTK_CACHE", str(tmp_path))
    data = load_qm9(200, seed=1)
    assert "qm9pack" not in sys.modules
    assert data.index.max() > 90_000
    assert data.index.min() < 44_000
    assert len(set(data.index)) == 200
    assert all(-20_000 < energy < -1000 for energy in data.targets)
    with pytest.raises(ValueError, match="there are 130831"):
        load_qm9(130_832)
