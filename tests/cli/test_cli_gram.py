"""The command ``so3ntk gram``: killed, resumed, divided among processes, and its errors."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from so3ntk import open_gram
from so3ntk.cli import main

pytest.importorskip("zarr")
ase = pytest.importorskip("ase")
#: A coarse grid, which two seconds compile.
FAST = ("--rtol", "0.5", "--bandlimit", "2", "--activation", "erf", "--powers", "2")


@pytest.fixture(autouse=True)
def restored_precision():
    """The command sets JAX's precision, which the other tests rely on."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def molecules(tmp_path):
    """A file of 12 molecules without energies."""
    from ase.build import molecule
    from ase.io import write

    frames = [molecule(name) for name in ("H2O", "CH4", "NH3", "C2H6", "CH3OH", "C6H6") * 2]
    for frame in frames:
        frame.rattle(0.05, seed=len(frame))
        frame.calc = None
    write(tmp_path / "molecules.xyz", frames, format="extxyz")
    return str(tmp_path / "molecules.xyz")


def test_ranks_and_resuming(molecules, tmp_path, capsys):
    data = ("--data", molecules, *FAST, "--tile", "20", "--kernel", "both")
    assert main(["gram", *data, "--store", str(tmp_path / "one.zarr")]) == 0
    printed = capsys.readouterr().out
    assert "12 molecules, 76 atoms" in printed
    tiles = int(re.search(r"pairs in (\d+) tiles of up to 20 x 20; .* MiB beyond the result", printed)[1])
    assert f"{tiles} of {tiles} tiles complete" in printed
    for rank in (1, 0):
        assert main(["gram", *data, "--store", str(tmp_path / "two.zarr"), "--rank", str(rank), "--world", "2"]) == 0
        printed = capsys.readouterr().out
        assert f"{tiles if rank == 0 else tiles // 2} of {tiles} tiles complete" in printed
    for name in ("nngp", "ntk"):
        one, two = (np.asarray(open_gram(tmp_path / path, name)) for path in ("one.zarr", "two.zarr"))
        np.testing.assert_array_equal(one, two)
        assert np.linalg.eigvalsh(one.astype(float)).min() > -1e-4 * one.max()
    assert main(["gram", *data, "--estimate", "--store", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()
    assert main(["gram", *data, "--length", "1.7", "--store", str(tmp_path / "one.zarr")]) == 2
    assert "one.zarr was made by another run:\n  x1.signals[0]: " in capsys.readouterr().err
    assert main(["gram", *data, "--rank", "2", "--world", "2"]) == 2
    assert "--rank counts from 0" in capsys.readouterr().err


@pytest.mark.slow
def test_kill_9(molecules, tmp_path):
    """The command is killed after some tiles; what it left is resumed, and nothing of it is computed again."""
    path, root = tmp_path / "run.zarr", Path(__file__).parents[2]
    command = [sys.executable, "-m", "so3ntk", "gram", "--data", molecules, *FAST, "--tile", "1", "--store", str(path)]
    child = subprocess.Popen(command, cwd=root, env={**os.environ, "JAX_PLATFORMS": "cpu"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while child.poll() is None and time.monotonic() < deadline and not (path.exists() and open_gram(path).mask.any()):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    g = open_gram(path)
    done, total = int(g.mask.sum()), len(g.tiling.tiles)
    assert 0 < done < total
    files = [f for f in path.glob("checksums/c/*/*/*") if f.name.isdigit()]  # others were being written
    written = {f: f.stat().st_mtime_ns for f in files}
    assert len(written) == done
    assert main(["gram", *command[4:]]) == 0
    assert g.complete
    assert all(f.stat().st_mtime_ns == when for f, when in written.items())
