import os
import pathlib
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as g2
from ase.calculators.singlepoint import SinglePointCalculator

from so3ntk.molecules import CompositionBaseline, MoleculeData, load_qm9, read_forces, read_molecules

PATH = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ.get('PATH', '')}"}
NAMES = ("HCN", "H2O", "CH3CH2OH", "CH4")


@pytest.fixture
def frames():
    structures = [g2(name) for name in NAMES]
    for k, atoms in enumerate(structures):
        atoms.calc = SinglePointCalculator(atoms, energy=-10.5 * k)
        atoms.info = {"moment": 0.5 * k, "note": "text"}
    return structures


@pytest.mark.parametrize("suffix", ["extxyz", "xyz", "traj", "json"])
def test_calculator_energies(tmp_path, frames, suffix):
    ase.io.write(tmp_path / f"m.{suffix}", frames)
    data = read_molecules(tmp_path / f"m.{suffix}")
    np.testing.assert_allclose(data.targets, -10.5 * np.arange(4))
    assert (data.target, data.unit, data.index.tolist()) == ("energy", "eV", [0, 1, 2, 3])
    for ours, expected in zip(data.atoms, frames, strict=True):
        np.testing.assert_array_equal(ours.numbers, expected.numbers)
        np.testing.assert_allclose(ours.positions, expected.positions, atol=1e-7)


def test_info_keys(tmp_path, frames):
    ase.io.write(tmp_path / "m.extxyz", frames)
    data = read_molecules(str(tmp_path / "m.extxyz"), target_key="moment", unit="Debye")
    np.testing.assert_allclose(data.targets, 0.5 * np.arange(4))
    assert data.unit == "Debye"
    with pytest.raises(ValueError, match="frame 0: expected 'note' to be a finite number, got text"):
        read_molecules(tmp_path / "m.extxyz", target_key="note")


def test_missing_energy_names_the_frame_and_the_keys(tmp_path, frames):
    frames[2].calc = None
    ase.io.write(tmp_path / "m.extxyz", frames)
    # Only what can be passed is named: the note is text
    with pytest.raises(ValueError, match=r"frame 2 has no 'energy'; it has moment\. Pass one of these as target_key\."):
        read_molecules(tmp_path / "m.extxyz")
    assert len(read_molecules(tmp_path / "m.extxyz", target_key="moment")) == 4
    ase.io.write(tmp_path / "plain.xyz", g2("HCN"), plain=True)
    with pytest.raises(
        ValueError, match=r"it has no numbers at all\. In extended xyz .* of each frame, as energy=-1\.5"
    ):
        read_molecules(tmp_path / "plain.xyz")
    (tmp_path / "plain.xyz").write_text((tmp_path / "plain.xyz").read_text().replace("3\n", "3\nenergy=-1.5 ", 1))
    assert read_molecules(tmp_path / "plain.xyz").targets == [-1.5]


def test_remedies_name_arguments_that_there_are(tmp_path, frames):
    ase.io.write(tmp_path / "m.extxyz", frames)
    with pytest.raises(ValueError, match=r"read_forces: .* has no 'E'; it has energy, moment\. .* as energy_key\."):
        read_forces(tmp_path / "m.extxyz", energy_key="E")
    with pytest.raises(ValueError, match=r"has no 'forces'; it has no arrays \(atoms, 3\)\. .*forces:R:3"):
        read_forces(tmp_path / "m.extxyz", energy_key="moment")
    with pytest.raises(ValueError, match=r"load_qm9: .*; it has energy, moment\. .* as target_key of read_molecules\."):
        load_qm9(path=tmp_path / "m.extxyz")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=2 * atoms.positions)
    ase.io.write(tmp_path / "m.extxyz", frames)
    with pytest.raises(
        ValueError, match=r"has no 'gradient'; it has the arrays \(atoms, 3\) forces\. Pass one of these"
    ):
        read_forces(tmp_path / "m.extxyz", forces_key="gradient")  # positions are such an array, too, and no forces
    np.testing.assert_allclose(read_forces(tmp_path / "m.extxyz").forces[0], 2 * frames[0].positions, atol=1e-7)


def test_energies_that_are_not_finite(tmp_path, frames):
    frames[1].calc = SinglePointCalculator(frames[1], energy=np.nan)
    ase.io.write(tmp_path / "m.extxyz", frames)
    with pytest.raises(ValueError, match="frame 1: expected 'energy' to be a finite number, got nan"):
        read_molecules(tmp_path / "m.extxyz")


def test_positions_that_are_not_finite(tmp_path, frames):
    frames[3].positions[1, 2] = np.nan
    ase.io.write(tmp_path / "m.traj", frames)
    with pytest.raises(ValueError, match=r"molecule 3, atom 1 has the position .*nan"):
        read_molecules(tmp_path / "m.traj")


def test_frame_without_atoms(tmp_path, frames):
    ase.io.write(tmp_path / "m.traj", [*frames, Atoms()])
    with pytest.raises(ValueError, match="molecule 4 has no atoms"):
        read_molecules(tmp_path / "m.traj")


def test_unreadable_files(tmp_path, frames):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.xyz"):
        read_molecules(tmp_path / "none.xyz")
    file = tmp_path / "m.extxyz"
    ase.io.write(file, frames)
    lines = file.read_text().splitlines(keepends=True)
    for content in ("".join(lines[:-2]), "", "nonsense\n", "".join(lines)[:-40], "\0" * 100):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"read_molecules: .*m\.extxyz"):
            read_molecules(file)
    ase.io.write(tmp_path / "m.traj", frames)
    whole = (tmp_path / "m.traj").read_bytes()
    (tmp_path / "m.traj").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"read_molecules: .*m\.traj"):
        read_molecules(tmp_path / "m.traj")


def test_causes_are_said_as_they_are_known(tmp_path, frames):
    """Only a frame that is too short is asked about truncation."""
    (tmp_path / "m.foo").write_text("hello\nworld\n")
    with pytest.raises(
        ValueError, match=r"UnknownFileTypeError: foo\)\. ase tells the format by .*`ase info --formats`"
    ):
        read_molecules(tmp_path / "m.foo")
    assert subprocess.run(["ase", "info", "--formats"], capture_output=True, check=False, env=PATH).returncode == 0
    ase.io.write(tmp_path / "m.xyz", frames)
    (tmp_path / "m.xyz").rename(tmp_path / "m.foo")  # and back, to the suffix of its format
    (tmp_path / "m.foo").rename(tmp_path / "m.xyz")
    assert len(read_molecules(tmp_path / "m.xyz")) == 4
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(ValueError, match=r"ase cannot read .*m\.json \(JSONDecodeError: .*\)\.$"):
        read_molecules(tmp_path / "m.json")


def test_at_signs_in_names_are_no_indices(tmp_path, frames):
    ase.io.write(tmp_path / "plain.extxyz", frames)
    (tmp_path / "plain.extxyz").rename(tmp_path / "m@0.extxyz")
    assert len(read_molecules(tmp_path / "m@0.extxyz")) == 4


def test_selection_of_data(frames):
    data = MoleculeData(frames, np.arange(4.0), "energy", "eV", np.arange(4) + 10)
    for index, rows in (
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        (2, [2]),
        (np.array([True, False, True, False]), [0, 2]),
    ):
        chosen = data[index]
        assert chosen.atoms == [frames[row] for row in rows]
        assert chosen.targets.tolist() == rows
        assert chosen.index.tolist() == [row + 10 for row in rows]
    with pytest.raises(IndexError):
        data[4]
    with pytest.raises((ValueError, TypeError), match=r"as many targets|index"):  # TypeError: jaxtyping's
        MoleculeData(frames, np.arange(3.0), "energy", "eV", np.arange(4))


ELEMENTS = {1: -13.6, 6: -1030.5, 8: -2042.0, 7: -1486.0}


def energies(structures):
    return np.array([sum(ELEMENTS[z] for z in atoms.numbers) for atoms in structures])


def test_baseline_recovers_sums_over_atoms():
    train = [g2(name) for name in ("HCN", "H2O", "CH3CH2OH", "CH4", "NH3", "CO2")]
    test = [g2(name) for name in ("CH3CONH2", "C6H6")]
    fit = CompositionBaseline().fit(train, energies(train))
    assert fit.elements == (1, 6, 7, 8)
    np.testing.assert_allclose(fit.values, [ELEMENTS[z] for z in fit.elements], rtol=1e-12)
    np.testing.assert_allclose(fit.predict(test), energies(test), rtol=1e-12)
    two = CompositionBaseline().fit(train, np.stack([energies(train), 2 * energies(train)], axis=1))
    np.testing.assert_allclose(two.predict(test)[:, 1], 2 * energies(test), rtol=1e-12)


def test_baseline_of_least_norm():
    # Only (n_C, n_H) = k (1, 2): the fit is fixed on that line and has no part across it.
    train = [g2("C2H4"), Atoms("CHH", np.eye(3))]
    fit = CompositionBaseline().fit(train, [10.0, 5.0])
    np.testing.assert_allclose(fit.values, [2, 1], rtol=1e-13)
    np.testing.assert_allclose(fit.predict(train), [10, 5], rtol=1e-13)


def test_baseline_is_least_squares():
    rng = np.random.default_rng(0)
    train = [g2(name) for name in ("HCN", "H2O", "CH3CH2OH", "CH4", "NH3", "CO2", "C6H6")]
    y = energies(train) + rng.normal(size=7)
    residual = y - CompositionBaseline().fit(train, y).predict(train)
    counts = np.array([[np.count_nonzero(a.numbers == z) for z in (1, 6, 7, 8)] for a in train])
    np.testing.assert_allclose(counts.T @ residual, 0, atol=1e-9)  # 1e3 eV, 20 atoms, 1e-13
    assert abs(residual).max() > 0.1


def test_baseline_errors():
    train = [g2("HCN"), g2("CH4")]
    fit = CompositionBaseline().fit(train, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"molecule 1 holds O, which no training molecule did \(H, C, N\)"):
        fit.predict([g2("CH4"), g2("H2O")])
    with pytest.raises(RuntimeError, match="call fit"):
        CompositionBaseline().predict(train)
    for atoms, y in (([], []), (train, [1.0]), (train, 1.0)):
        with pytest.raises(ValueError, match="one value per molecule"):
            CompositionBaseline().fit(atoms, y)
    with pytest.raises(ValueError, match="NaN"):
        CompositionBaseline().fit(train, [1.0, np.nan])
