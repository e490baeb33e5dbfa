"""What files say about a model beside it."""

import numpy as np
import pytest
from ase import Atoms

from so3ntk import KernelRegressor, load, save
from so3ntk.errors import ModelFileError
from so3ntk.molecules import CompositionBaseline
from so3ntk.saving import describe
from tests.saved_files import rewritten, set_at

ABOUT = {"unit": "kcal/mol", "rows": {"train": [0, 2], "test": []}, "seed": 0, "share": 0.1, "none": None}


@pytest.fixture
def model():
    return KernelRegressor("precomputed", ridge=0.1).fit(np.eye(4) + 0.1, np.arange(4.0))


def test_it_travels_with_the_model(model, tmp_path):
    """Also through files of files, and a model without any has none."""
    save(model, tmp_path / "m.npz")
    assert not hasattr(load(tmp_path / "m.npz"), "about_")
    assert describe(tmp_path / "m.npz").models["model"].about == {}
    save(model, tmp_path / "m.npz", about=ABOUT)
    assert not hasattr(model, "about_")
    again = load(tmp_path / "m.npz", check=True)
    assert again.about_ == ABOUT
    save({"a": again, "b": model}, tmp_path / "m.npz")
    both = load(tmp_path / "m.npz")
    assert both["a"].about_ == ABOUT
    assert not hasattr(both["b"], "about_")


def test_files_are_described_without_models(model, tmp_path):
    save({"a": model, "b": CompositionBaseline().fit([Atoms("H2")], [1.0])}, tmp_path / "m.npz")
    found = describe(tmp_path / "m.npz")
    assert {"so3ntk", "jax"} <= set(found.versions)
    assert found.double_precision is True  # as the tests run
    assert found.models["a"].name == "KernelRegressor"
    assert found.models["a"].parameters["ridge"] == 0.1
    np.testing.assert_array_equal(found.models["a"].fitted["dual_coef_"], model.dual_coef_)
    assert found.models["b"].name == "CompositionBaseline"


def test_what_is_refused(model, tmp_path):
    for wrong in ({"unit": object()}, {"energy": np.nan}, {1.5: {2}}, "kcal/mol"):
        with pytest.raises(TypeError, match="save: expected about to be a dict"):
            save(model, tmp_path / "m.npz", about=wrong)
    with pytest.raises(TypeError, match=r"about is kept with an estimator, got .* for a dict"):
        save({"a": model}, tmp_path / "m.npz", about=ABOUT)
    assert list(tmp_path.iterdir()) == []
    save(model, tmp_path / "m.npz", about=ABOUT)
    rewritten(tmp_path / "m.npz", set_at("models", "model", "about", value=[1]))
    for read in (load, describe):
        with pytest.raises(ModelFileError, match="said about a model to be a dict"):
            read(tmp_path / "m.npz")
    rewritten(tmp_path / "m.npz", set_at("format_version", value=99))
    with pytest.raises(ModelFileError, match="has the format version 99"):
        describe(tmp_path / "m.npz")
