"""Which names a store may have, and options of ``gram`` that are yes or no."""

from pathlib import Path

import numpy as np
import pytest

from so3ntk import gram, open_gram
from tests.matrices.test_store import NET, run, signals

zarr = pytest.importorskip("zarr")


@pytest.mark.parametrize(
    "place",
    ["memory://q.zarr", "s3://bucket/run.zarr", Path("s3://bucket/run.zarr"), "file:///tmp/run.zarr", "run.zip"],
)
def test_names_that_are_no_folders_here(place, tmp_path, monkeypatch):
    """Refused before anything is written or computed; both remedies work."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("so3ntk.matrices.gram.make_plan", None)
        with pytest.raises(ValueError, match=r"store: .* (is an address|is a zip file)") as error:
            run(place, x=signals(3))
    with pytest.raises(ValueError, match="store: "):
        open_gram(place)
    assert list(tmp_path.iterdir()) == []
    named, made = (
        str(error.value).split("name one, such as ")[1].rstrip(".").split(", or pass a store of zarr, such as ")
    )
    for remedy in (named, made):
        found = run(eval(remedy, {"zarr": zarr}), x=signals(3), get="ntk")
        assert np.isfinite(np.asarray(found)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


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
