"""Which names a store may have, and options of ``gram`` that are yes or no."""

import sys
from pathlib import Path

import numpy as np
import pytest

from so3ntk import gram, open_gram
from tests.matrices.test_store import NET, run, signals

zarr = pytest.importorskip("zarr")
pytest.importorskip("fsspec.registry")


@pytest.mark.parametrize("place", [
    Path("s3://bucket/run.zarr"), "file:///tmp/run.zarr", "nowhere://run.zarr", "zip::memory://run.zip", "run.zip",
])  # fmt: skip
def test_names_of_no_place(place, tmp_path, monkeypatch):
    """Refused before anything is written or computed; both remedies work."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("so3ntk.matrices.gram.make_plan", None)
        with pytest.raises(ValueError, match=r"store: .* is (an|a|no) (address|folder|chain|zip file)") as error:
            run(place, x=signals(3))
    with pytest.raises((ValueError, FileNotFoundError), match=r"(store|open_gram): "):
        open_gram(place)
    assert list(tmp_path.iterdir()) == []
    named, made = (
        str(error.value).split("name one, such as ")[1].rstrip(".").split(", or pass a store of zarr, such as ")
    )
    for remedy in (named, made):
        found = run(eval(remedy, {"zarr": zarr}), x=signals(3), get="ntk")
        assert np.isfinite(np.asarray(found)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_a_protocol_whose_package_is_missing(monkeypatch):
    known = sys.modules["fsspec.registry"].known_implementations
    monkeypatch.setitem(known, "absent", {"class": "absent.Files", "err": "Install absent"})
    with pytest.raises(
        ImportError, match=r"store: the address 'absent://run.zarr' needs another package: Install absent"
    ):
        run("absent://run.zarr", x=signals(3))
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ImportError, match=r"needs the package fsspec: pip install -e '\.\[store\]'"):
        run("s3://bucket/run.zarr", x=signals(3))


def test_folders_whose_names_look_like_others(tmp_path, monkeypatch):
    """A drive of Windows is no protocol, and a folder may be called run.zip."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.zip").mkdir()
    for place in ("C:run.zarr", "a:b", "run.zip/own.zarr"):
        assert run(place, x=signals(3), get="ntk").shape == (3, 3)


@pytest.mark.parametrize("name", ["progress", "diagonal"])
def test_yes_or_no(name):
    with pytest.raises(TypeError, match=f"gram: expected {name} to be True or False, got 'no'"):
        gram(NET, signals(2), **{name: "no"})
