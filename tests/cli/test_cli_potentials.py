"""``so3ntk fit``, ``predict``, ``md`` and ``info``, on one model of waters held together by springs."""

import json

import ase.io
import jax
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

import so3ntk
from so3ntk.cli import main
from so3ntk.cli.fit import split
from so3ntk.cli.md import check_overlap
from so3ntk.cli.potentials import ranges
from so3ntk.molecules import EnergyForceRegressor, Frames, read_frames
from tests.molecules.springs import springs, waters

pytest.importorskip("matplotlib")

KCAL = units.kcal / units.mol


@pytest.fixture(autouse=True)
def restored_precision():
    """Commands set JAX's precision to that of a file."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


def write_waters(path, n=14, seed=0, unit=1.0):
    """With energies and forces in kcal/mol over ``unit``, under the names of MACE, and a number that is no energy."""
    atoms = waters(n, seed)
    for frame, energy, forces in zip(atoms, *springs(atoms), strict=True):
        frame.info |= {"REF_energy": energy / unit, "dipole_like": float(len(frame)) + energy / 100}
        frame.arrays["REF_forces"] = forces / unit
    ase.io.write(path, atoms, format="extxyz")
    return str(path)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with waters.xyz, model.npz and what the command wrote and printed."""
    folder = tmp_path_factory.mktemp("fit")
    data = write_waters(folder / "waters.xyz")
    command = ["fit", data, "--save", str(folder / "model.npz"), "--unit", "kcal/mol", "--test", "0.3", "--seed", "3"]
    assert main([*command, "--out", str(folder / "out")]) == 0
    return folder


def test_fit_saves_a_model_that_knows_what_it_is(fitted):
    """Its errors are those on the frames that it says were held out."""
    model = so3ntk.load(fitted / "model.npz", check=True)
    about = model.about_
    assert (about["unit"], about["seed"], about["keys"]) == (
        "kcal/mol", 3, {"energy": "REF_energy", "forces": "REF_forces"},
    )  # fmt: skip
    assert model.progress is False
    (file,) = about["files"]
    assert file["file"] == "waters.xyz"
    train, test = (rows_of(file[part]) for part in ("train", "test"))
    assert (len(train), len(test)) == (10, 4)
    assert sorted(train + test) == list(range(14))
    frames = read_frames(fitted / "waters.xyz", unit="kcal/mol")
    np.testing.assert_allclose(
        np.sort([a.positions for a in model.atoms_], axis=0),
        np.sort([frames.atoms[i].positions for i in train], axis=0),
    )
    found = model.predict(frames[test].atoms)
    off = np.concatenate(found.forces) - np.concatenate(frames[test].forces)
    assert about["errors"]["force component"]["mae"] == pytest.approx(np.abs(off).mean(), rel=1e-6)
    assert about["errors"]["energy"]["rmse"] == pytest.approx(
        np.sqrt(np.mean((found.energies - frames[test].energies) ** 2)), rel=1e-4
    )
    assert about["errors"]["force component"]["count"] == 36
    results = json.loads((fitted / "out" / "fit.json").read_text())
    assert results["errors"] == about["errors"]
    assert [point["size"] for point in results["points"]] == [5, 10]
    for point in results["points"]:
        assert point["zero"]["force component"]["mae"] == pytest.approx(
            np.abs(np.concatenate(frames[test].forces)).mean()
        )
        assert point["errors"]["force component"]["mae"] < 0.3 * point["zero"]["force component"]["mae"]
    assert "jax" in results["versions"]
    for name in ("parity", "learning_curve_energy", "learning_curve_forces"):
        assert (fitted / "out" / f"{name}.png").stat().st_size > 5000


def rows_of(text):
    """Of "0-4,6"."""
    ends = [part.split("-") for part in text.split(",")]
    return [row for end in ends for row in range(int(end[0]), int(end[-1]) + 1)]


def test_ranges():
    for rows in ([0, 1, 2, 5, 7, 8], [3], [4, 5]):
        assert rows_of(ranges(rows)) == rows
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert ranges([]) == ""


def test_predict_writes_electronvolts_and_compares(fitted, tmp_path, capsys):
    """Whatever the unit of the model; errors are in that, whatever the unit of the file."""
    command = ["predict", str(fitted / "model.npz")]
    data = write_waters(tmp_path / "new.xyz", 3, seed=9)
    assert main([*command, data, "--out", str(tmp_path / "p.extxyz"), "--std", "--quiet"]) == 0
    printed = capsys.readouterr().out
    model = so3ntk.load(fitted / "model.npz")
    frames = read_frames(data, unit="kcal/mol")
    expected = model.predict(frames.atoms, return_std=True)
    written = ase.io.read(tmp_path / "p.extxyz", ":")
    for row, atoms in enumerate(written):
        assert atoms.get_potential_energy() == pytest.approx(expected.energies[row] * KCAL, rel=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces[row] * KCAL, atol=1e-6)
        assert atoms.info["energy_std"] == pytest.approx(expected.energy_std[row] * KCAL, rel=1e-5)
        np.testing.assert_allclose(atoms.arrays["force_std"], expected.force_std[row] * KCAL, atol=1e-6)
        assert atoms.info["REF_energy"] == pytest.approx(frames.energies[row])  # as it was
    line = next(line for line in printed.splitlines() if line.startswith("force component [kcal/mol/Angstrom]"))
    off = np.concatenate(expected.forces) - np.concatenate(frames.forces)
    assert float(line.split()[-3]) == pytest.approx(np.abs(off).mean(), rel=1e-3)
    other = write_waters(tmp_path / "ev.xyz", 3, seed=9, unit=1 / KCAL)
    assert main([*command, other, "--unit", "eV", "--out", str(tmp_path / "q.extxyz"), "--quiet"]) == 0
    table = printed.partition("MAE")[2].splitlines()[1:]
    assert len(table) == 3
    assert capsys.readouterr().out.splitlines()[-3:] == table
    assert "energy_std" not in ase.io.read(tmp_path / "q.extxyz").info
    for frame in written:
        frame.calc, frame.info, frame.arrays = None, {}, {k: frame.arrays[k] for k in ("numbers", "positions")}
    ase.io.write(tmp_path / "bare.xyz", written)
    assert main([*command, str(tmp_path / "bare.xyz"), "--out", str(tmp_path / "q.extxyz"), "--quiet"]) == 0
    assert "errors on" not in capsys.readouterr().out
    assert len(ase.io.read(tmp_path / "q.extxyz", ":")) == 3


def dynamics(folder, out, *options, start=None):
    """The frames of a run."""
    start = str(folder / "waters.xyz") if start is None else str(start)
    assert main(["md", str(folder / "model.npz"), start, "--trajectory", str(out), *options]) == 0
    return ase.io.read(out, ":")


def test_dynamics(fitted, tmp_path, capsys):
    """Frames at every interval, reproducible by the seed, at rest as a whole, with the model's forces in eV."""
    options = ("--steps", "25", "--temperature", "200")
    frames = dynamics(fitted, tmp_path / "a.extxyz", *options)
    printed = capsys.readouterr().out
    assert "25 steps" in printed
    assert "steps per second" in printed
    assert printed.count("steps/s\n") == 3  # after 10, 20 and 25 steps
    assert [frame.info["time_fs"] for frame in frames] == [0, 5, 10]
    np.testing.assert_allclose(frames[0].positions, ase.io.read(fitted / "waters.xyz", -1).positions, atol=1e-7)
    assert abs(frames[2].positions - frames[0].positions).max() > 0.01
    for frame in frames:
        np.testing.assert_allclose(frame.get_momenta().sum(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(frames[0].get_angular_momentum()) < 1e-6 < np.linalg.norm(frames[0].get_momenta())
    model = so3ntk.load(fitted / "model.npz")
    np.testing.assert_allclose(frames[2].get_forces(), model.predict([frames[2]]).forces[0] * KCAL, atol=1e-5)
    again, other = (dynamics(fitted, tmp_path / "b.extxyz", *options, "--seed", seed, "--quiet") for seed in ("0", "1"))
    assert again == frames
    assert other[0].positions.tolist() == frames[0].positions.tolist()
    assert abs(other[2].positions - frames[2].positions).max() > 1e-3


def test_dynamics_without_a_thermostat(fitted, tmp_path):
    """Energy stays, to the error of velocity Verlet, (omega dt)^2 / 8 of it; with one it does not."""
    options = ("--steps", "40", "--interval", "5", "--quiet", "--friction", "0.1")
    spread = {}
    for ensemble in ("nve", "nvt"):
        frames = dynamics(fitted, tmp_path / "a.extxyz", *options, "--ensemble", ensemble)
        kinetic = np.array([frame.get_kinetic_energy() for frame in frames])
        spread[ensemble] = np.ptp(kinetic + [frame.get_potential_energy() for frame in frames]) / kinetic.max()
    assert spread["nve"] < 0.03
    assert spread["nvt"] > 0.1


def test_dynamics_under_pressure(fitted, tmp_path):
    """The cell follows, and a structure unlike those of training is warned of."""
    start = waters(1, 0)[0]
    start.set_cell([7] * 3)
    start.pbc = True
    ase.io.write(tmp_path / "start.xyz", start)
    options = ("--steps", "10", "--ensemble", "npt", "--quiet")
    volumes = [
        dynamics(fitted, tmp_path / "a.extxyz", *options, "--pressure", pressure, start=tmp_path / "start.xyz")[
            -1
        ].get_volume()
        for pressure in ("-100000", "100000")
    ]
    assert volumes[0] > 343 * 1.0001
    assert volumes[1] < 343 * 0.9999
    start.positions[1] += [0.3, 0, 0]
    ase.io.write(tmp_path / "start.xyz", start)
    with pytest.warns(UserWarning, match="standard deviation of .* more than warn_above=0.001"):
        dynamics(
            fitted,
            tmp_path / "a.extxyz",
            "--steps",
            "1",
            "--warn-above",
            "0.001",
            "--quiet",
            start=tmp_path / "start.xyz",
        )


def test_a_run_that_is_interrupted_leaves_whole_frames(fitted, tmp_path, monkeypatch, capsys):
    from so3ntk.cli import md

    write, written = md.write_frame, []

    def interrupted(atoms, time, file):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(time)
        write(atoms, time, file)

    monkeypatch.setattr(md, "write_frame", interrupted)
    command = ["md", str(fitted / "model.npz"), str(fitted / "waters.xyz"), "--trajectory", str(tmp_path / "a.extxyz")]
    assert main([*command, "--steps", "40", "--quiet"]) == 130
    assert "so3ntk md: interrupted" in capsys.readouterr().err
    assert len(ase.io.read(tmp_path / "a.extxyz", ":")) == 2


def refused(capsys, message, *command):
    """In one line, with exit status 2."""
    capsys.readouterr()
    assert main([str(part) for part in command]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_starts_that_are_refused(fitted, tmp_path, capsys):
    """Nothing is written."""
    command = "md", fitted / "model.npz", tmp_path / "start.xyz", "--trajectory", tmp_path / "out.extxyz"

    def start(atoms):
        ase.io.write(tmp_path / "start.xyz", atoms)
        return command

    near = waters(1, 0)[0]
    near.positions[2] = near.positions[1] + [0.2, 0, 0]
    refused(capsys, "H (atom 1) and H (atom 2) overlap: they are 0.2 Angstrom apart", *start(near))
    refused(capsys, "holds F, which no training molecule did", *start(Atoms("HF", [[0, 0, 0], [0, 0, 0.95]])))
    refused(capsys, "is not periodic in all directions", *start(waters(1, 0)[0]), "--ensemble", "npt")
    refused(capsys, "there is no file", *command[:2], tmp_path / "none.xyz", *command[3:])
    assert not (tmp_path / "out.extxyz").exists()
    across = Atoms("H2", [[0, 0, 0], [0, 0, 3.8]], cell=[9, 9, 4], pbc=True)  # through the cell's border
    with pytest.raises(ValueError, match="overlap"):
        check_overlap(across, "START")
    check_overlap(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), "START")
    check_overlap(Atoms("H"), "START")


def test_info(fitted, capsys):
    assert main(["info", str(fitted / "model.npz")]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "EnergyForceRegressor", "Lift, Products, GroupPool, Dense, AtomSum (the default)", "H, O", "kcal/mol, lengths in A",
        "10 frames of 30 atoms", "REF_forces", "waters.xyz: train ", "energy_noise", "array [100]", "jax ",
    ):  # fmt: skip
        assert expected in printed


def test_numbers_that_are_no_energies(tmp_path, capsys):
    """Without forces, in a unit of their own; no dynamics with these."""
    data, saved = write_waters(tmp_path / "w.xyz"), str(tmp_path / "m.npz")
    command = [
        "fit",
        data,
        "--save",
        saved,
        "--target",
        "dipole_like",
        "--no-forces",
        "--quiet",
        "--out",
        str(tmp_path),
    ]
    refused(capsys, "--unit: the unit of 'dipole_like' is not known. Pass --unit eV", *command)
    assert main([*command, "--unit", "Debye"]) == 0
    model = so3ntk.load(saved)
    assert model.force_noise_ is None
    assert main(["predict", saved, data, "--out", str(tmp_path / "p.extxyz"), "--quiet"]) == 0
    assert "energy [Debye]" not in (printed := capsys.readouterr().out)
    assert "dipole_like [Debye]" in printed
    frame = ase.io.read(tmp_path / "p.extxyz")
    assert frame.info["dipole_like"] == pytest.approx(model.predict([frame]).energies[0], rel=1e-6)
    assert frame.calc is None
    refused(capsys, "numbers in Debye, which have no forces", "md", saved, data, "--trajectory", tmp_path / "t.xyz")
    options = "--intensive", "--unit", "eV", "--inducing", "20"
    assert main([*command, *options]) == 0
    assert so3ntk.load(saved).composition_ == {}
    assert main(["predict", saved, data, "--out", str(tmp_path / "q.extxyz"), "--std", "--quiet"]) == 0
    written = ase.io.read(tmp_path / "q.extxyz", ":")
    assert {"dipole_like", "dipole_like_std"} <= set(written[0].info)
    found, known = ([one.info["dipole_like"] for one in some] for some in (written, ase.io.read(data, ":")))
    assert np.corrcoef(found, known)[0, 1] > 0.9
    assert abs(np.mean(found) - np.mean(known)) < 1e-3
    refused(
        capsys, "do not grow with the structure in eV, which have no forces", "md", saved, data, "--trajectory", "t.xyz"
    )


def test_isolated_atoms_and_frames_that_lack_something(tmp_path, capsys):
    """Energies of elements are those of the atoms in the files; frames without forces count by their energy, others not."""
    path = write_waters(tmp_path / "w.xyz", 6)
    atoms = ase.io.read(path, ":")
    del atoms[1].arrays["REF_forces"], atoms[2].info["REF_energy"]
    single = [Atoms("H", info={"REF_energy": -3.0}), Atoms("O", info={"REF_energy": -40.0})]
    for frame in atoms:
        if "REF_energy" in frame.info:
            frame.info["REF_energy"] -= 46
    ase.io.write(path, [*single, *atoms], format="extxyz")
    saved = tmp_path / "m.npz"
    assert main(["fit", path, "--save", str(saved), "--unit", "kcal/mol", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "energy of 5 (REF_energy, kcal/mol); forces of 5 (REF_forces" in printed
    assert "isolated atoms H, O" in printed
    assert "5 frames to train on, 0 held out; baseline: isolated" in printed
    model = so3ntk.load(saved)
    assert model.baseline == {"H": -3.0, "O": -40.0}
    assert model.about_["files"] == [{"file": "w.xyz", "train": "2-3,5-7", "test": ""}]
    held = read_frames(write_waters(tmp_path / "v.xyz", 8, seed=5), unit="kcal/mol")
    assert np.abs(model.predict(held.atoms).energies + 46 - held.energies).mean() < 0.5
    assert main(["predict", str(saved), path, "--out", str(tmp_path / "p.extxyz"), "--quiet"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("energy ["))
    assert line.split()[-1] == "5"  # of the waters, not of the atoms
    assert len(ase.io.read(tmp_path / "p.extxyz", ":")) == 8


def test_data_that_is_refused(tmp_path, capsys, monkeypatch):
    """Before anything is computed or written."""
    monkeypatch.setattr(EnergyForceRegressor, "fit", None)
    saved, data = tmp_path / "m.npz", write_waters(tmp_path / "w.xyz")
    command = "fit", data, "--save", saved, "--quiet", "--out", tmp_path / "out"
    refused(capsys, "'kcal' is no unit of energy. Pass one of eV, meV", *command, "--unit", "kcal")
    refused(capsys, "of 14 frames 14 are held out", *command, "--test", "14")
    refused(capsys, "no isolated atom of H, O", *command, "--baseline", "isolated")
    refused(capsys, "--no-forces and --forces-key", *command, "--no-forces", "--forces-key", "x")
    refused(capsys, "frame 0 has no 'F'; it has the arrays (atoms, 3) REF_forces. Pass one of these as --forces-key",
            *command, "--forces-key", "F")  # fmt: skip
    refused(capsys, "--stress: the files hold none", *command, "--stress")
    refused(capsys, "there is no folder", *command[:3], tmp_path / "none" / "m.npz")
    ase.io.write(tmp_path / "bare.xyz", waters(2, 0))
    refused(capsys, "they have no numbers at all", "fit", tmp_path / "bare.xyz", *command[2:])
    atoms = waters(1, 0)[0]
    atoms.calc, atoms.info = SinglePointCalculator(atoms, energy=1.0), {"REF_energy": 2.0}
    ase.io.write(tmp_path / "two.xyz", atoms)
    refused(capsys, "Say which is meant: --target energy", "fit", tmp_path / "two.xyz", *command[2:])
    assert not saved.exists()


def test_an_interrupted_fit_leaves_no_file(tmp_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(EnergyForceRegressor, "fit", interrupt)
    data = write_waters(tmp_path / "w.xyz")
    assert main(["fit", data, "--save", str(tmp_path / "m.npz"), "--out", str(tmp_path / "out")]) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "w.xyz"]
    assert list((tmp_path / "out").iterdir()) == []


def test_models_that_are_refused(tmp_path, capsys):
    model = so3ntk.KernelRegressor("precomputed", ridge=0.1).fit(np.eye(4) + 0.1, np.arange(4.0))
    so3ntk.save(model, tmp_path / "m.npz")
    data = write_waters(tmp_path / "w.xyz")
    refused(capsys, "holds a KernelRegressor; expected an EnergyForceRegressor", "predict", tmp_path / "m.npz", data, "--out",
            tmp_path / "p.xyz")  # fmt: skip
    assert main(["info", str(tmp_path / "m.npz")]) == 0
    assert "KernelRegressor" in capsys.readouterr().out
    refused(capsys, "is not a saved model", "info", data)
    assert not (tmp_path / "p.xyz").exists()


def test_split():
    """By a number or a share, the same for a seed, with all elements and only energies in what is trained on."""
    atoms = [*waters(19, 0), Atoms("OF", [[0, 0, 0], [0, 0, 1.4]])]
    energies = np.where(np.arange(20) == 4, np.nan, 1.0)
    frames = Frames(atoms, energies, [None] * 20, [None] * 20, "eV")
    held_out = set()
    for seed in range(12):
        train, test = split(frames, 0.25, seed)
        assert len(test) == 5
        assert 19 in train
        assert set(train) | set(test) | {4} == set(range(20))
        assert not set(train) & set(test)
        assert 4 not in train
        np.testing.assert_array_equal(split(frames, 5, seed)[1], test)
        held_out |= set(test)
    assert len(held_out) > 14
    assert len(split(frames, 0, 0)[1]) == 0
