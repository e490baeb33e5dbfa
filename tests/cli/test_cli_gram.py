"""The command ``so3ntk gram``: resumed, divided among processes, and its errors."""

import re

import jax
import numpy as np
import pytest

from so3ntk import open_gram
from so3ntk.cli import main
from so3ntk.matrices.store import GramStore

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

    frames = [molecule(name) for name in ("H2O", "CH4", "NH3", "C2H6", "CH3OH", "HCN") * 2]
    for frame in frames:
        frame.rattle(0.05, seed=len(frame))
        frame.calc = None
    write(tmp_path / "molecules.xyz", frames, format="extxyz")
    return str(tmp_path / "molecules.xyz")


@pytest.mark.usefixtures("optimized")
def test_ranks_and_resuming(molecules, tmp_path, capsys):
    data = ("--data", molecules, *FAST, "--tile", "20", "--kernel", "both")
    assert main(["gram", *data, "--store", str(tmp_path / "one.zarr")]) == 0
    printed = capsys.readouterr().out
    assert "12 molecules, 58 atoms" in printed
    tiles = int(re.search(r"pairs in (\d+) tiles of up to 20 x 20; .* MiB beyond the result", printed)[1])
    assert f"{tiles} of {tiles} tiles complete" in printed
    data = *data, "--quiet"  # else what it takes is measured again
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


def test_a_run_that_ends_is_resumed(molecules, tmp_path, monkeypatch):
    """After some tiles; nothing of them is computed again. Processes that are killed: tests/matrices/test_store.py."""
    path, write = tmp_path / "run.zarr", GramStore.write
    command = ["gram", "--data", molecules, *FAST, "--tile", "20", "--store", str(path), "--quiet"]

    class Killed(BaseException):
        pass

    def killed(*arguments):
        if path.exists() and open_gram(path).mask.sum() == 3:
            raise Killed
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(GramStore, "write", killed)
        with pytest.raises(Killed):
            main(command)
    g = open_gram(path)
    assert int(g.mask.sum()) == 3
    written = {f: f.stat().st_mtime_ns for f in path.glob("checksums/c/*/*/*")}
    assert len(written) == 3 < len(g.tiling.tiles)
    assert main(command) == 0
    assert g.complete
    assert all(f.stat().st_mtime_ns == when for f, when in written.items())
