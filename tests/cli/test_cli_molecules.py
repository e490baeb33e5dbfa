"""The command ``so3ntk molecules``, and what all commands share: options, units, progress, errors before any work."""

import json

import jax
import numpy as np
import pytest

import so3ntk
from so3ntk.cli import build_parser, main
from so3ntk.cli.results import ACTIVATIONS, make_activation
from so3ntk.molecules.forces.consistency import ENERGIES

pytest.importorskip("matplotlib")
ase = pytest.importorskip("ase")

from ase import units  # noqa: E402
from ase.build import bulk  # noqa: E402
from ase.calculators.singlepoint import SinglePointCalculator  # noqa: E402
from ase.io import write  # noqa: E402

from tests.molecules.springs import springs, waters  # noqa: E402

#: A coarse grid, which seconds compile.
FAST = ("--bandlimit", "2", "--inducing", "99", "--draws", "1", "--sizes", "4", "6", "--test", "4")
EV = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
}


@pytest.fixture(autouse=True)
def restored_precision():
    """The command sets JAX's precision, which the other tests rely on."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


def write_waters(path, energy=1.0, length=1.0, force=None):
    """Ten waters with energies of springs in eV times ``energy``, positions in Angstrom times ``length``, forces."""
    atoms = waters(10, seed=0, amplitude=0.04)
    energies, forces = springs(atoms)
    for frame, value, own in zip(atoms, energies, forces, strict=True):
        results = {} if force is None else {"forces": force * EV["kcal/mol"] * own}
        frame.calc = SinglePointCalculator(frame, energy=energy * EV["kcal/mol"] * value, **results)
        frame.info["my_energy"] = energy * EV["kcal/mol"] * value
        frame.positions *= length
    write(path, atoms, format="extxyz")
    return str(path)


def run(path, out, *options):
    """The command's results in JSON."""
    assert main(["molecules", "--data", path, *FAST, "--quiet", *options, "--out", str(out)]) == 0
    return json.loads((out / "learning_curve.json").read_text())


def errors(results, unit):
    """In eV."""
    assert results["unit"] == unit
    return np.array([point["mae"] for point in results["points"]]) * EV[unit]


def table(printed, unit):
    """Numbers of one table."""
    lines = printed.splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith(f"mean absolute error [{unit}]"))
    return [[float(value) for value in line.split()[-2:]] for line in lines[start + 1 : start + 4]]


def test_units_are_said_and_change_nothing_else(tmp_path, capsys):
    """The same molecules in other units: the same errors in eV, in the JSON and in the tables of both usual units."""
    # Of fewer molecules, or in single precision, the last digits of a file may make another ridge the best
    double = "--precision", "float64", "--sizes", "7", "8", "--test", "2"
    expected = errors(run(write_waters(tmp_path / "eV.xyz"), tmp_path, "--target", "energy", *double), "eV")
    assert expected.max() > 0.01
    usual = table(capsys.readouterr().out, "kcal/mol")
    assert {unit: ENERGIES[unit] for unit in EV} == pytest.approx(EV, rel=1e-6)  # so that two of them are enough
    for unit in ("kcal/mol", "Hartree"):
        path = write_waters(tmp_path / "waters.xyz", 1 / EV[unit])
        results = run(path, tmp_path, "--target", "my_energy", "--unit", unit, *double)
        np.testing.assert_allclose(errors(results, unit), expected, rtol=1e-3)  # eight digits in the file
        assert results["settings"]["unit"] == unit
        printed = capsys.readouterr().out
        np.testing.assert_allclose(table(printed, "kcal/mol"), usual, atol=0.011)
        np.testing.assert_allclose(table(printed, "meV"), np.array(usual) * EV["kcal/mol"] * 1000, rtol=0.01, atol=0.3)
        assert f"[{unit}]" in printed
    results = run(path, tmp_path, "--target", "my_energy", "--unit", "other")
    assert results["unit"] == "other"
    assert "mean absolute error [other]" in capsys.readouterr().out
    path = write_waters(tmp_path / "bohr.xyz", length=1 / units.Bohr)
    results = run(path, tmp_path, "--target", "energy", "--length-unit", "Bohr", *double)
    np.testing.assert_allclose(errors(results, "eV"), expected, rtol=1e-3)
    assert results["length_unit"] == "Bohr"


def test_the_kernel_is_the_one_asked_for(tmp_path):
    """Composition alone has the same errors, networks others."""
    path = write_waters(tmp_path / "waters.xyz")
    tangent, gaussian = (
        run(path, tmp_path, "--target", "my_energy", "--unit", "eV", "--kernel", kernel)["points"]
        for kernel in ("ntk", "nngp")
    )
    for a, b in zip(tangent, gaussian, strict=True):
        assert (a["mae"] == b["mae"]) == (a["method"] == "composition")


def test_units_that_contradict_the_file(tmp_path, monkeypatch, capsys):
    """Lengths by their bonds, energies by the file's forces: said before anything is computed, where each run ends here."""

    def run(path, *options):
        assert main(["molecules", "--data", path, *FAST, "--quiet", *options, "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err == "so3ntk molecules: the end.\n"

    def stopped(*arguments):
        raise ValueError("the end.")

    monkeypatch.setattr(so3ntk.Network, "calibrate", stopped)
    good = write_waters(tmp_path / "good.xyz", force=1.0)
    run(good, "--target", "energy")
    inside = write_waters(tmp_path / "kcal.xyz", 1 / EV["kcal/mol"], force=1.0)  # as ase has forces
    run(inside, "--target", "energy", "--unit", "kcal/mol")
    both = write_waters(tmp_path / "both.xyz", 1 / EV["kcal/mol"], force=1 / EV["kcal/mol"])
    run(both, "--target", "energy", "--unit", "kcal/mol")
    with pytest.warns(UserWarning, match=r"--data: energies and forces .* energies are in kcal/mol and forces in eV"):
        run(inside, "--target", "energy")
    with pytest.warns(UserWarning, match="--data, energies made eV from --unit kJ/mol: .* do not belong together"):
        run(inside, "--target", "energy", "--unit", "kJ/mol")
    wrong = write_waters(tmp_path / "sign.xyz", force=-1.0)
    with pytest.warns(UserWarning, match="wrong sign"):
        run(wrong, "--target", "energy")
    bohr = write_waters(tmp_path / "bohr.xyz", length=1 / units.Bohr)
    with pytest.warns(UserWarning, match=r"--data: the bonds of hydrogen are 1\.8\d times .* Bohr"):
        run(bohr, "--target", "energy")
    with pytest.warns(UserWarning, match=r"--data: .* are 0\.\d+ Angstrom apart, nearer than 0.4"):
        run(write_waters(tmp_path / "nm.xyz", length=0.1), "--target", "energy")


def test_periodic_structures(tmp_path, capsys):
    """Shells take them; powers are refused without --cutoff, by the option's name, and taken with it, as is a leaky ReLU."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(10):
        frame = bulk("Cu", cubic=True)
        frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
        frame.calc = SinglePointCalculator(frame, energy=float(rng.normal()))
        frames.append(frame)
    write(tmp_path / "copper.xyz", frames, format="extxyz")
    command = ["molecules", "--data", str(tmp_path / "copper.xyz"), "--target", "energy", *FAST, "--out", str(tmp_path)]
    assert main([*command, "--cutoff", "4", "--quiet"]) == 0
    capsys.readouterr()
    command += ["--powers", "2"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "--cutoff: structure 0 of those drawn is periodic" in error
    remedy = error.split("pass ")[1].split(",")[0].split()
    assert remedy == ["--cutoff", "5"]
    assert main([*command, "--cutoff", "2.9", "--quiet", "--activation", "leaky_relu", "--rtol", "0.1"]) == 0
    settings = json.loads((tmp_path / "learning_curve.json").read_text())["settings"]
    assert (settings["cutoff"], settings["activation"]) == (2.9, "leaky_relu")
    pytest.importorskip("zarr")
    gram = [
        "gram",
        "--data",
        str(tmp_path / "copper.xyz"),
        *FAST[:2],
        "--powers",
        "2",
        "--store",
        str(tmp_path / "run.zarr"),
        "--quiet",
    ]
    assert main(gram) == 2
    assert main([*gram, "--cutoff", "2.9"]) == 0


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_that_is_offered(name):
    x = np.random.default_rng(0).normal(size=(3, 2))
    activation = make_activation(build_parser().parse_args(["molecules", "--activation", name]).activation)
    assert type(activation).__name__.lower() == name.replace("_", "")
    kernel = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(), activation, so3ntk.Dense()).kernel_fn(x, None, "ntk")
    assert np.isfinite(kernel).all()


def test_progress(tmp_path, capsys):
    """What is not a result goes away with --quiet; else a line at the end for each matrix, as this is no terminal."""
    path = write_waters(tmp_path / "waters.xyz")
    command = ["molecules", "--data", path, "--target", "energy", *FAST, "--out", str(tmp_path)]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "10 molecules, 30 atoms, target energy (eV)" in out
    assert "rotation grid for rtol 0.0001: ProductGrid(n=4, n_beta=2)" in out
    assert [line.split(":")[0] for line in err.splitlines()] == ["Gram matrix", "features", "features"] * 4
    assert "\r" not in err
    assert main([*command, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("mean absolute error [kcal/mol]")
    assert "SO(3) kernel, 6 molecules" not in out
    assert "quiet" not in json.loads((tmp_path / "learning_curve.json").read_text())["settings"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--rtol", "1e-14"),
            "--rtol: rtol 1e-14 is below what float32 can reach, 9.5e-07: .* pass --precision float64",
        ),
        (("--rtol", "1e-16", "--precision", "float64"), "below what float64 can reach, 1.8e-15: .* Raise rtol.$"),
        (("--rtol", "nan"), "--rtol: expected rtol, a relative error, between 0 and 1, got nan"),
        (("--rtol", "2"), "--rtol: expected rtol, a relative error, between 0 and 1, got 2.0"),
        (("--memory", "10"), "--memory: expected at least 1MiB, as 2GiB or 500MB, got 10, which is 10 bytes"),
        (("--memory", "much"), "memory: expected bytes or a string such as .* got 'much'"),
        (("--out", "s3://bucket/results"), "--out: 's3://bucket/results' is an address, not a path on this machine"),
        (
            ("--target", "my_energy"),
            "--unit: the unit of 'my_energy' in .* is not known. Pass --unit eV, meV, .* --unit other",
        ),
        (("--target", "energy", "--sizes", "40"), "ask for 44 molecules, .* holds 10"),
        (
            ("--target", "energy", "--length", "1"),
            "--length: where powers weigh the same is for --powers; shells have none",
        ),
        (("--target", "energy", "--length", "-1", "--powers", "2"), "length"),
        (("--target", "energy", "--cutoff", "-1"), "cutoff"),
    ],
)
def test_errors_are_one_line_and_come_early(tmp_path, capsys, monkeypatch, options, message):
    path = write_waters(tmp_path / "waters.xyz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(so3ntk.Network, "calibrate", None)  # nothing has been computed yet
    command = ["molecules", "--data", path, *FAST, "--quiet", *options]
    if "--out" not in options:
        command += ["--out", str(tmp_path)]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    with pytest.raises(AssertionError, match=message):  # re.search, with its message
        raise AssertionError(line)
    assert line.startswith("so3ntk molecules: ")
    assert [file.name for file in tmp_path.iterdir()] == ["waters.xyz"]


def test_units_of_qm9_are_known(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for option in (("--unit", "eV"), ("--length-unit", "Bohr")):
        assert main(["molecules", "--data", str(tmp_path / "folder"), *option, "--out", str(tmp_path)]) == 2
        assert f"{option[0]} is for files that ase reads" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["molecules", "images", "gram"])
def test_options_of_all_commands(command, capsys):
    for wrong in (("--seed", "-1"), ("--activation", "softplus")):
        with pytest.raises(SystemExit) as stopped:
            main([command, *wrong])
        assert stopped.value.code == 2
        assert f"argument {wrong[0]}: " in capsys.readouterr().err
    assert build_parser().parse_args([command, "--quiet"]).quiet
    assert main([command, "--memory", "10"]) == 2
    assert "--memory: expected at least 1MiB" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"so3ntk {so3ntk.__version__}\n"
