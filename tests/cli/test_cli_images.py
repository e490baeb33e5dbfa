"""The command ``so3ntk images``: what it prints and writes, and its errors."""

import errno
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

from planar.datasets import load_digits, quarter_turns
from planar.experiments import accuracy_curve, draw, image_kernels, image_network
from so3ntk.cli import build_parser, main

pytest.importorskip("matplotlib")
HISTOLOGY = Path(__file__).parents[2] / "examples" / "histology.py"
#: Seconds: filters of global support need no loop over displacements.
FAST = ("--filter", "global", "--padding", "CIRCULAR")


@pytest.fixture(autouse=True)
def restored_precision():
    """The command sets JAX's precision, which the other tests rely on."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


def table_of(printed):
    """The numbers of the table by label, and its head."""
    lines = printed.splitlines()
    start = next(row for row, line in enumerate(lines) if line.startswith("accuracy [%]"))
    rows = [line.split() for line in lines[start : start + 3]]
    return rows[0][2:], {" ".join(row[:-2]): [float(value) for value in row[-2:]] for row in rows[1:]}


def test_table_picture_and_json(tmp_path, capsys):
    options = ("--sizes", "20", "30", "--test", "20", "--groups", "C1", "C4", "--seed", "1", *FAST)
    assert main(["images", *options, "--out", str(tmp_path / "new" / "folder")]) == 0
    printed = capsys.readouterr().out
    assert "1797 images of 8 x 8 x 1, 10 classes; test images turned by random quarter turns" in printed
    head, rows = table_of(printed)
    assert head == ["20", "30"]
    assert list(rows) == ["CNN kernel (C1)", "C4 kernel"]
    drawn = draw(load_digits(), [20, 30], 20, 1)
    drawn = drawn._replace(test=quarter_turns(drawn.test, 1))
    for group, found in zip(("C1", "C4"), rows.values(), strict=True):
        kernels = image_kernels(image_network(group, 2, None, "CIRCULAR"), drawn, progress=False)
        points = accuracy_curve({group: kernels}, drawn)
        assert found == [round(100 * point.accuracy, 1) for point in points]
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["accuracy.json", "accuracy.png"]
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "accuracy.json").read_text())
    assert [round(100 * p["accuracy"], 1) for p in results["points"]] == [v for row in rows.values() for v in row]
    assert results["settings"]["sizes"] == [20, 30]
    assert results["settings"]["filter"] is None
    assert set(results["gram_seconds"]) == {"C1", "C4"}
    assert results["versions"]["jax"] == jax.__version__
    assert results["classes"] == list("0123456789")


def test_a_file_upright_in_double_precision(tmp_path, capsys):
    """Bright and dark images: all are told apart. Kernels are in the precision that was asked for."""
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = (generator.random((24, 6, 6, 1)) + labels[:, None, None, None]) / 2
    np.savez(tmp_path / "tiles.npz", images=images[:3], labels=labels[:3], val_images=images, val_labels=labels)
    names = ("--images", "val_images", "--labels", "val_labels")
    data = ("--data", str(tmp_path / "tiles.npz"), *names, "--pixels", "3", "--upright", "--precision", "float64")
    options = ("--groups", "D4", "--depth", "1", "--activation", "erf", "--kernel", "nngp", "--out", str(tmp_path))
    assert main(["images", "--sizes", "4", "8", "--test", "6", *FAST, *data, *options]) == 0
    printed = capsys.readouterr().out
    assert "24 images of 3 x 3 x 1, 2 classes; test images upright" in printed
    assert jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    results = json.loads((tmp_path / "accuracy.json").read_text())
    assert [p["accuracy"] for p in results["points"]] == [1, 1]
    assert main(["images", "--sizes", "4", "8", "--test", "6", *FAST, *data, *options, "--kernel", "ntk"]) == 0
    tangent = json.loads((tmp_path / "accuracy.json").read_text())
    assert [p["ridge"] for p in tangent["points"]] != [p["ridge"] for p in results["points"]]


def test_defaults():
    args = build_parser().parse_args(["images"])
    assert (args.groups, args.filter, args.padding, args.kernel) == (["C1", "C4", "D4"], 3, "SAME", "ntk")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--groups", "C4", "C5"), "expected group to be one of C1, C2, C4, D4, got 'C5'"),
        (("--sizes", "20", "1700"), "1700 training and 200 test images need 1900, but there are 1797"),
        (("--sizes", "5"), "train=5 is too small for one image of each of the 10 classes"),
        (("--data", "absent.npz"), "there is no file absent.npz"),
        (("--data", "absent"), "there is no file absent"),
        (("--pixels", "9"), "expected at most the 8 pixels that the images have, got 9"),
        (("--per-class", "5"), "per_class is for a folder of tiles"),
        (("--filter", "4"), "an even filter (4, 4) has no centre pixel"),
        (("--filter", "global"), "need padding='CIRCULAR'"),
        (("--filter", "9", "--padding", "VALID"), "a filter of 9 x 9 pixels is larger than the 8 x 8 positions"),
        (("--memory", "much"), "much"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, options, message):
    assert main(["images", "--out", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1:]
    assert error == [line for line in error if line.startswith("so3ntk images: ") and message in line]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["images", "--out", str(out)]) == 2
        assert f"--out: cannot write in the folder {out}" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_without_permission(tmp_path, capsys, monkeypatch):
    """Simulated: the superuser may write everywhere."""

    def refuse(dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert main(["images", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"so3ntk images: --out: cannot write in the folder {tmp_path} (Permission denied)")


def test_traceback_on_request(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file absent"):
        main(["images", "--data", "absent", "--out", str(tmp_path), "--traceback"])


def test_as_a_module(tmp_path, monkeypatch, capsys):
    """``python -m so3ntk``, in this process."""
    monkeypatch.setattr(sys, "argv", ["so3ntk", "images", "--groups", "C5", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("so3ntk", run_name="__main__")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "so3ntk images: planar.Lift: expected group to be one of C1, C2, C4, D4, got 'C5'."


def run_histology(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["histology.py", *map(str, options)])
    runpy.run_path(str(HISTOLOGY), run_name="__main__")


def test_example_of_histology(tmp_path, monkeypatch, capsys):
    """Red and blue tiles: colour is seen whatever the size."""
    images = np.random.default_rng(0).integers(100, size=(24, 6, 6, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    images[labels == 0, :, :, 0] += 150
    images[labels == 1, :, :, 2] += 150
    np.savez(tmp_path / "tiles.npz", images=images, labels=labels, classes=["red", "blue"])
    sizes = ("--pixels", 3, "--sizes", 4, 10, "--test", 10, "--groups", "C4", "--depth", 1)
    run_histology(monkeypatch, "--data", tmp_path / "tiles.npz", *sizes, "--out", tmp_path / "out")
    assert "24 images of 3 x 3 x 3, 2 classes: red, blue" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "accuracy.json").read_text())
    assert [(p["size"], p["accuracy"]) for p in results["points"]] == [(4, 1), (10, 1)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["accuracy.json", "accuracy.png"]


def test_errors_of_the_example(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_histology(monkeypatch, "--data", tmp_path / "absent.npz", "--out", tmp_path)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("histology.py: load_npz: there is no file ")
