"""Stored Gram matrices: interrupted, damaged, mistaken and full; and how they are read."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, Elementwise, Erf, Flatten, SphereSignal, gram, open_gram, serial
from so3ntk.matrices.fingerprint import describe, differences
from so3ntk.matrices.store import GramStore, open_store
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.harmonics import white_signals

zarr = pytest.importorskip("zarr")
BOTH = ("nngp", "ntk")
N, TILE = 37, 7
TILES = 21  # of 6 x 6 those on and below the diagonal
NET = serial(Flatten(), Dense(b_std=0.3), Erf(), Dense())


def signals(n, seed=0, dtype=np.float64):
    return SphereSignal(jnp.asarray(white_signals(n, 2, 1, seed), dtype), 2)


def molecules(sizes=(3, 1, 4, 2, 5), scale=1.0):
    owner = np.repeat(np.arange(len(sizes)), sizes)
    numbers = np.random.default_rng(0).choice([1, 6, 8], len(owner))
    x = signals(len(owner), 3)
    return Environments(SphereSignal(x.coefficients * scale, 2), owner, numbers)


def run(path, net=NET, x=None, get=BOTH, tile=TILE, **options):
    return gram(net, signals(N) if x is None else x, get=get, tile=tile, store=path, progress=False, **options)


@pytest.fixture(scope="module")
def whole():
    """Both kernels, uninterrupted, in memory."""
    return gram(NET, signals(N), get=BOTH, tile=TILE, progress=False)


def assert_same_bits(found, expected):
    for kernel, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(kernel), other)


def chunk(path, name, i, j):
    return next(f for f in Path(path, name, "c", str(i), str(j)).rglob("*") if f.is_file())


# --- what is stored, and how it is read


def test_read_lazily(tmp_path, whole, monkeypatch):
    """Every kind of index gives what the array gives, and reads no tile that it does not need."""
    found = run(tmp_path / "run.zarr")
    assert_same_bits(found, whole)
    g, dense = open_gram(tmp_path / "run.zarr", get="ntk"), whole.ntk
    assert (g.shape, g.dtype, g.ndim, len(g), g.complete) == (dense.shape, dense.dtype, 2, N, True)
    odd, mask = np.array([30, 2, 2, 11]), np.arange(N) % 5 == 1
    keys = [(3, 20), (20, 3), (-1, slice(None)), slice(5, 9), (slice(None, None, -4), odd), (mask, slice(8, 8)), 4,
            (Ellipsis, 2), np.ix_(odd, mask.nonzero()[0]), (slice(30, 3, -5), slice(1, 36, 6)), ([], slice(None))]  # fmt: skip
    for key in keys:
        expected = dense[key]
        assert g[key].shape == expected.shape
        np.testing.assert_array_equal(g[key], expected)
    read, reading = [], GramStore.read
    monkeypatch.setattr(GramStore, "read", lambda self, *a: read.append(a) or reading(self, *a))
    np.testing.assert_array_equal(g[8:13, 20:30], dense[8:13, 20:30])
    assert read == [("ntk", 2, 1), ("ntk", 3, 1), ("ntk", 4, 1)]  # mirrored from below the diagonal
    lower = np.zeros((N, N))
    for rows, columns, values in g.tiles():
        lower[rows, columns] = values
    np.testing.assert_array_equal(np.tril(lower), np.tril(dense))
    for wrong in ((0, 0, 0), (None, 0), (odd, odd), 37):
        with pytest.raises(IndexError):
            g[wrong]


def test_two_batches_molecules_and_nothing(tmp_path):
    """Molecules of unlike sizes: tiles hold as many as have at most so many atoms."""
    net, x, y = serial(*NET.layers, AtomSum(match_species=True)), molecules(), molecules((2, 9, 1))
    for name, second in (("own", None), ("two", y)):
        expected = gram(net, x, second, tile=5, progress=False)
        stored = gram(net, x, second, tile=5, store=tmp_path / name, progress=False)
        np.testing.assert_array_equal(stored, expected)
        assert stored.tiling.rows.tolist() == [0, 2, 3, 4, 5]  # 3 + 1, 4, 2, 5 atoms: 4 + 2 are too many
        assert stored.symmetric == (second is None)
    assert stored.tiling.columns.tolist() == [0, 1, 2, 3]
    assert run(tmp_path / "none", x=signals(0), get="ntk").shape == (0, 0)


def test_open_gram_of_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no store at"):
        open_gram(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    for use in (open_gram, run):
        with pytest.raises(ValueError, match="something else in it"):
            use(tmp_path / "other")
    zarr.open_group(tmp_path / "foreign", mode="w")
    with pytest.raises(ValueError, match="holds no Gram matrix of so3ntk"):
        open_gram(tmp_path / "foreign")
    run(tmp_path / "run", share=(1, 4))
    with pytest.raises(ValueError, match="say which one: get="):
        open_gram(tmp_path / "run")
    with pytest.raises(ValueError, match="not 'ntks'"):
        open_gram(tmp_path / "run", "ntks")
    with pytest.raises(ValueError, match=r"tile \(0, 0\) .* \(rows 0:7, columns 0:7\) is not computed yet"):
        open_gram(tmp_path / "run", "ntk")[:3]


# --- interrupted runs


class Killed(BaseException):
    pass


def test_killed_at_ten_points(tmp_path, whole, monkeypatch):
    """After any number of writes (each tile is two kernels and a mark): the same bits as without."""
    writing = zarr.Array.__setitem__
    for point in np.sort(np.random.default_rng(0).choice(3 * TILES, 10, replace=False)).tolist():
        left = [point]

        def write(array, key, value, left=left):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            writing(array, key, value)

        path = tmp_path / f"{point}.zarr"
        with monkeypatch.context() as patch:
            patch.setattr(zarr.Array, "__setitem__", write)
            with pytest.raises(Killed):
                run(path)
        assert int(open_gram(path, "ntk").mask.sum()) == point // 3
        assert_same_bits(run(path), whole)


#: Two writers for one import: nothing has started a thread when they part.
CHILD = """
import os, sys, time
import jax
jax.config.update("jax_enable_x64", True)
from so3ntk.matrices.store import GramStore
from tests.matrices.test_store import run
other = os.fork()
write = GramStore.write
GramStore.write = lambda *a: (write(*a), time.sleep(0.25))
run(sys.argv[1])
if other and os.waitpid(other, 0)[1]:
    sys.exit("the other one failed")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="two processes from one")
def test_two_processes_killed_at_once(tmp_path, whole):
    """SIGKILL of two writers of one store, after some tiles: what they left is resumed to the same bits."""
    path, root = tmp_path / "run.zarr", Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", CHILD, str(path)]
    both = subprocess.Popen(command, env=environment, cwd=root, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not (path.exists() and open_gram(path, "ntk").mask.sum() >= 4):
            assert both.poll() in (None, 0)
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):  # they were quicker
            os.killpg(both.pid, signal.SIGKILL)
        both.wait()
    left = open_gram(path, "ntk").mask.sum()
    assert left >= 4
    assert left < TILES or both.returncode == 0
    assert_same_bits(run(path), whole)
    leftovers = [f for f in tmp_path.iterdir() if f != path]
    assert len(leftovers) <= 1  # the other's unfinished store, if it was killed while making it


def test_keyboard_interrupt(tmp_path, whole, monkeypatch):
    writing, path = GramStore.write, tmp_path / "run.zarr"

    def write(self, i, j, kernels):
        if (i, j) == (3, 1):
            raise KeyboardInterrupt
        writing(self, i, j, kernels)

    with monkeypatch.context() as patch:
        patch.setattr(GramStore, "write", write)
        with pytest.raises(KeyboardInterrupt, match=r"7 of 21 tiles are kept in .*run\.zarr\. The same call resumes"):
            run(path)
    computed = []
    monkeypatch.setattr(GramStore, "write", lambda self, i, j, k: computed.append((i, j)) or writing(self, i, j, k))
    assert_same_bits(run(path), whole)
    assert len(computed) == 14  # and no finished one again


def test_shares_of_several_processes(tmp_path, whole):
    path = tmp_path / "run.zarr"
    run(path, share=(1, 3))
    g = open_gram(path, "nngp")
    assert (g.complete, int(g.mask.sum())) == (False, 7)
    for rank in (0, 2):
        run(path, share=(rank, 3))
    assert g.complete
    assert_same_bits(run(path), whole)
    for share in ((3, 3), (-1, 2), 2, (0, 1.5)):
        with pytest.raises(ValueError, match="share"):
            run(path, share=share)
    with pytest.raises(ValueError, match="pass store= as well"):
        gram(NET, signals(2), share=(0, 2))


# --- damage


def test_damaged_files(tmp_path, whole):
    """A flipped byte, a file cut short, one that is gone, a damaged mark: found when read, and computed again."""
    path = tmp_path / "run.zarr"
    run(path)
    flipped = chunk(path, "ntk", 3, 2)
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    cut = chunk(path, "nngp", 1, 0)
    cut.write_bytes(cut.read_bytes()[:20])
    chunk(path, "ntk", 5, 5).unlink()
    chunk(path, "checksums", 4, 4).write_bytes(b"\xff" * 5)
    g = open_gram(path, "ntk")
    with pytest.raises(so3ntk.DamagedTileError, match=r"tile \(3, 2\) .* \(rows 21:28, columns 14:21\)"):
        g[22, 15]
    with pytest.raises(so3ntk.DamagedTileError, match=r"tile \(1, 0\)"):
        open_gram(path, "nngp")[7, 0]
    np.testing.assert_array_equal(g[:7, :7], whole.ntk[:7, :7])
    with pytest.warns(UserWarning, match=r"\[\(1, 0\), \(3, 2\), \(5, 5\)\] of .* are damaged and are computed again"):
        found = run(path)
    assert_same_bits(found, whole)


def test_a_full_disk(tmp_path, whole, monkeypatch):
    """The system's own error: what is complete is kept, and the same call goes on."""
    path, put, files = tmp_path / "run.zarr", zarr.storage.LocalStore.set, []

    async def set_until_full(self, key, value, *rest):
        files.append(key)
        if "/c/" in key and len(files) > 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await put(self, key, value, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "set", set_until_full)
        with pytest.raises(OSError, match=r"cannot write tile .* \(No space left on device\)") as error:
            run(path)
    assert error.value.errno == errno.ENOSPC
    kept = int(open_gram(path, "ntk").mask.sum())
    assert 0 < kept < TILES
    assert f"{kept} of 21 tiles are complete and kept" in str(error.value)
    assert_same_bits(run(path), whole)


def test_a_read_only_store(tmp_path, whole):
    path = tmp_path / "run.zarr"
    run(path, share=(0, 2))
    closed = zarr.storage.LocalStore(path, read_only=True)
    with pytest.raises(
        PermissionError, match=r"cannot write .* \(it was opened read-only\), and 10 of its 21 tiles are missing"
    ):
        run(closed)
    run(path)
    assert_same_bits(run(closed), whole)  # nothing to write
    mode = os.stat(path).st_mode
    if os.geteuid():
        shutil.rmtree(path)
        run(path, share=(0, 2))
        os.chmod(path, 0o555)
        with pytest.raises(PermissionError):
            run(path)
        os.chmod(path, mode)


# --- mistakes


def test_another_run(tmp_path):
    """Whatever decides the numbers is named, with both values."""
    path, x = tmp_path / "run.zarr", signals(6)
    run(path, x=x, get="ntk", tile=4)
    other = serial(Flatten(), Dense(b_std=0.4), Erf(), Dense())
    cases = [
        ({"net": other}, r"network\[1\].b_std: 0.3 in the store, 0.4 now"),
        ({"net": serial(*NET.layers[:2], so3ntk.Relu(), Dense())}, r'network\[2\].*"Erf".*"Relu"'),
        ({"x": signals(6, seed=1)}, r"x1.signals\[0\]"),
        ({"x": signals(6, dtype=np.float32)}, 'dtype: "float64" in the store, "float32" now'),
        ({"get": BOTH}, r"get: \['ntk'\] in the store, \['nngp', 'ntk'\] now"),
        ({"tile": 3}, "tile: 4 in the store, 3 now"),
        ({"x2": x}, "x2: null in the store"),
    ]
    for change, message in cases:
        with pytest.raises(so3ntk.StoreMismatchError, match=message) as error:
            run(path, **{"x": x, "get": "ntk", "tile": 4, **change})
        lines = 2 if "dtype" in message else 1  # the same numbers in another dtype are other data
        assert str(error.value).count("\n") == 1 + lines  # and nothing else is named
    assert run(path, x=x, get="ntk", tile=None).complete
    with pytest.raises(MemoryError, match=r"need \d+ MiB, more than the budget of 1 MiB"):
        run(path, x=x, get="ntk", memory="1MiB", tile=None)


def test_grids_are_told_apart():
    rotations = so3ntk.random_rotations(4, seed=0)
    explicit = so3ntk.ExplicitGrid(rotations), so3ntk.ExplicitGrid(rotations[::-1])
    coarse, fine = (describe(so3ntk.AdaptiveGrid(so3ntk.ProductGrid(8), so3ntk.ProductGrid(n), 0.9)) for n in (12, 16))
    assert differences(coarse, fine) == ["fine.n: 12 in the store, 16 now", "fine.n_beta: 6 in the store, 8 now"]
    assert differences(coarse, describe(so3ntk.ProductGrid(8)))
    assert differences(*map(describe, explicit))
    assert not differences(describe(explicit[0]), describe(so3ntk.ExplicitGrid(rotations)))


def test_functions_have_names(tmp_path):
    layers = lambda *a, **k: serial(Flatten(), Dense(), Elementwise(*a, **k))  # noqa: E731
    with pytest.raises(ValueError, match=r"has no name to be recognised by.*name="):
        run(tmp_path / "run", layers(lambda u: jnp.tanh(u)), signals(2))
    run(tmp_path / "run", layers(lambda u: jnp.tanh(u), name="tanh"), signals(2))
    run(tmp_path / "run", layers(lambda u: jnp.tanh(1 * u), name="tanh"), signals(2))
    for fn, name in ((jnp.sin, "tanh"), (jnp.tanh, "other")):
        with pytest.raises(so3ntk.StoreMismatchError, match=r"network\[2\]"):
            run(tmp_path / "run", layers(fn, name=name), signals(2))


def test_another_version_of_jax_is_said(tmp_path, monkeypatch):
    run(tmp_path / "run", share=(0, 2))
    monkeypatch.setattr("so3ntk.matrices.store.versions", lambda: {"so3ntk": so3ntk.__version__, "jax": "0.0"})
    with pytest.warns(UserWarning, match=f"jax {jax.__version__}, now 0.0: new tiles agree with it to rounding"):
        run(tmp_path / "run")


def test_kernels_that_are_not_finite(tmp_path):
    """The pair and the molecule are named; tiles before it are kept."""
    net = serial(*NET.layers[:2], so3ntk.Monomial(3), Dense(), AtomSum())
    x = molecules((1, 1, 1, 1, 2, 1))
    x = Environments(SphereSignal(x.signal.coefficients.at[4].mul(1e150), 2), x.molecule, x.numbers)
    with pytest.raises(
        so3ntk.PrecisionError,
        match=r"kernel: the NTK of molecule 4 of x1 and molecule \d of x1 is not a number of float64 \((nan|inf)\)",
    ) as error:
        run(tmp_path / "run", net, x, get="ntk", tile=2)
    assert "Molecule 4 of x1 is in" in str(error.value)
    assert open_gram(tmp_path / "run").mask.sum() == 3
    with pytest.raises(so3ntk.PrecisionError, match="input 4 of x1 and input 0 of x2"):
        gram(serial(*net.layers[:-1]), x.signal, signals(2), progress=False)


def test_without_zarr(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[store\]' in the checkout"):
        run(tmp_path / "run")


def test_an_object_of_zarr_as_store(whole):
    store = zarr.storage.MemoryStore()
    assert open_store(store) is None
    assert_same_bits(run(store), whole)
