"""Gram matrices at addresses of fsspec, by its file system in memory, and in zip files."""

import errno
import shutil

import numpy as np
import pytest

from so3ntk import DamagedTileError, StoreMismatchError, gram, open_gram
from so3ntk.matrices.store import GramStore, open_store
from tests.matrices.test_store import BOTH, NET, TILE, TILES, N, assert_same_bits, run, signals

zarr, fsspec = pytest.importorskip("zarr"), pytest.importorskip("fsspec")
PLACE = "memory://bucket/run.zarr"


@pytest.fixture(scope="module")
def whole():
    """Both kernels in memory."""
    return gram(NET, signals(N), get=BOTH, tile=TILE, progress=False)


@pytest.fixture
def files():
    """The file system, empty."""
    found = fsspec.filesystem("memory")
    if found.exists("/bucket"):
        found.rm("/bucket", recursive=True)
    return found


def tile_of(files, name, i, j):
    """The object that holds a tile."""
    return next(path for path in files.find("/bucket/run.zarr") if f"/{name}/c/{i}/{j}/" in path)


def test_computed_resumed_and_read(files, whole, monkeypatch):
    written, writing = [], GramStore.write

    def write(self, i, j, kernels):
        if len(written) == 9:
            raise KeyboardInterrupt
        writing(self, i, j, kernels)
        written.append((i, j))

    with monkeypatch.context() as patch:
        patch.setattr(GramStore, "write", write)
        with pytest.raises(KeyboardInterrupt, match=f"9 of {TILES} tiles are kept in memory:"):
            run(PLACE)
    assert open_gram(PLACE, "ntk").mask.sum() == 9
    assert_same_bits(run(PLACE), whole)
    assert not any("/." in path for path in files.find("/bucket"))  # nothing is left of what was tried
    with pytest.raises(StoreMismatchError, match=r"memory://bucket/run\.zarr was made by another run"):
        run(PLACE, x=signals(N, 1))


def test_damaged_objects(files, whole):
    run(PLACE)
    files.pipe_file(tile_of(files, "ntk", 3, 1), b"torn")
    with pytest.raises(DamagedTileError, match=r"tile \(3, 1\) of memory://bucket"):
        np.asarray(open_gram(PLACE, "ntk"))
    with pytest.warns(UserWarning, match=r"tiles \[\(3, 1\)\] of memory://bucket"):
        assert_same_bits(run(PLACE), whole)


def test_a_full_bucket_and_one_that_only_reads(files, whole, monkeypatch):
    run(PLACE, share=(0, 3))
    for name, error, told in (
        ("pipe_file", OSError(errno.ENOSPC, "No space left"), "No space left"),
        ("pipe_file", NotImplementedError(), "its protocol only reads"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(type(files), name, raising(error))
            with pytest.raises(
                PermissionError, match=rf"cannot write to memory://bucket/run\.zarr \({told}\), and 14 of"
            ):
                run(PLACE)
    assert_same_bits(run(PLACE), whole)


def raising(error):
    def fails(*arguments, **options):
        raise error

    return fails


@pytest.mark.parametrize("remote", [False, True])
def test_zip_files_are_read(files, whole, tmp_path, remote):
    run(tmp_path / "run.zarr")
    place = shutil.make_archive(str(tmp_path / "run"), "zip", tmp_path / "run.zarr")
    if remote:
        files.put_file(place, "/bucket/run.zip")
        place = "zip::memory://bucket/run.zip"
    stored = open_gram(place, "ntk")
    assert stored.complete
    np.testing.assert_array_equal(np.asarray(stored), whole.ntk)
    with pytest.raises(ValueError, match="which open_gram reads alone"):
        run(place)


def test_nothing_there(files, tmp_path):
    assert open_store(PLACE) is None
    for place in (PLACE, tmp_path / "run.zip"):
        with pytest.raises(FileNotFoundError, match="open_gram: there is no store at"):
            open_gram(place)
