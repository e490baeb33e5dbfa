"""The command ``so3ntk spectrum``, and what ``so3ntk molecules --predict-to`` says, with kernels that nothing compiles."""

import argparse
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.base import BaseEstimator

from so3ntk.cli import build_parser, main
from so3ntk.cli.molecules import units_of
from so3ntk.cli.predictions import check_reach, predicted_sizes, report_predictions
from so3ntk.molecules.energies import CurvePoint, learning_curve
from so3ntk.spectra import measured_errors, spectrum
from tests.spectra.populations import power_law

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def restored_precision():
    """The command sets JAX's precision, which the other tests rely on."""
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def stored(tmp_path):
    """A matrix of 120 inputs and its targets, as files."""
    features, y = power_law(modes=60).draw(120, seed=0)
    np.save(tmp_path / "k.npy", features @ features.T)
    np.savetxt(tmp_path / "y.txt", y)
    return tmp_path


def run(stored, *options):
    """What the command writes of a sample of 80."""
    files = ("--store", str(stored / "k.npy"), "--targets", str(stored / "y.txt"), "--out", str(stored / "out"))
    assert main(["spectrum", "gram", *files, "--sample", "80", "--test", "40", *options]) == 0
    return json.loads((stored / "out" / "spectrum.json").read_text())


def test_a_stored_matrix(stored, capsys):
    """The spectrum of rows drawn at random, the curve at a ridge in units of the diagonal, and measured errors at the same absolute ridge."""
    found = run(stored, "--ridge", "0.01", "--sizes", "20", "80", "160", "--draws", "2", "--unit", "eV", "--seed", "3")
    printed = capsys.readouterr().out
    kernel, y = np.load(stored / "k.npy"), np.loadtxt(stored / "y.txt")
    rows = np.random.default_rng(3).permutation(120)
    kernel, y = kernel[np.ix_(rows, rows)], y[rows]
    expected = spectrum(kernel[:80, :80], y[:80])
    curve = expected.learning_curve([20, 80, 160], 0.01 * expected.scale)
    assert found["spectrum"]["eigenvalues"] == pytest.approx(expected.eigenvalues.tolist())
    assert found["predicted"]["rmse"] == pytest.approx(curve.rmse.tolist())
    measured = measured_errors(kernel, y, [20, 80], curve.ridges[:2], 40, 2, 3)
    assert [each["rmse"] for each in found["measured"]] == pytest.approx([each.rmse for each in measured])
    mean = np.sqrt(np.mean([each.mse for each in measured if each.size == 80]))
    assert f"measured at 80: {mean:.4g}, mean over 2 draws" in printed
    assert "root mean square error [eV]" in printed
    assert (stored / "out" / "spectrum.png").stat().st_size > 10_000
    assert found["settings"]["ridge"] == 0.01


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take longer than what they show."""
    plot = "so3ntk.spectra.decomposition.GramSpectrum.plot"
    monkeypatch.setattr(plot, lambda self, path, *arguments, **options: Path(path).touch())


@pytest.mark.usefixtures("undrawn")
def test_sizes_by_default(stored):
    assert run(stored, "--test", "0")["predicted"]["sizes"] == [10, 20, 40, 80, 160, 320, 800]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sample", "100"), "ask for 140 inputs, .* holds 120: pass --sample 80, say"),
        (("--sample", "9"), "expected at least 10 samples, got 9"),
        (("--ridge", "-1"), "expected ridge to be None"),
    ],
)
def test_errors_of_one_line(stored, capsys, options, message):
    files = ("--store", str(stored / "k.npy"), "--targets", str(stored / "y.txt"), "--out", str(stored / "out"))
    assert main(["spectrum", "gram", *files, "--test", "40", "--sample", "80", *options]) == 2
    capsys_error = capsys.readouterr().err

    assert re.search(message, capsys_error), capsys_error


@pytest.mark.usefixtures("undrawn")
def test_images(monkeypatch, tmp_path, capsys):
    """Centred one-hot targets of the images drawn, and the kernel that is asked for."""
    asked = {}

    def gram(net, x, get, **options):
        asked.update(get=get, shape=x.shape)
        flat = np.asarray(x, float).reshape(len(x), -1)
        return flat @ flat.T / 64 + 0.1 * np.eye(len(x))

    monkeypatch.setattr("so3ntk.matrices.gram.gram", gram)
    options = ("--sample", "60", "--test", "20", "--kernel", "nngp", "--quiet", "--out", str(tmp_path))
    assert main(["spectrum", "images", *options]) == 0
    assert asked == {"get": "nngp", "shape": (80, 8, 8, 1)}
    found = json.loads((tmp_path / "spectrum.json").read_text())
    assert sum(found["spectrum"]["target_powers"]) == pytest.approx(
        0.09
    )  # one of ten classes: 0.9^2 / 10 + 0.1^2 9 / 10
    assert "60 eigenvalues" in capsys.readouterr().out


def test_molecules_have_the_options_of_their_command():
    args = build_parser().parse_args(["spectrum", "molecules", "--target", "gap", "--bandlimit", "3"])
    assert (args.target, args.bandlimit, args.sample, args.activation, args.ridge) == ("gap", 3, 1000, "products", None)


def reach(*options):
    return build_parser().parse_args(["molecules", "--sizes", "50", "100", *options])


def test_sizes_up_to_the_one_asked_for():
    assert predicted_sizes(reach("--predict-to", "1000")) == [50, 100, 200, 400, 800, 1000]
    check_reach(reach())
    with pytest.raises(ValueError, match="--predict-to: 100 molecules are no more than the largest of --sizes, 100"):
        check_reach(reach("--predict-to", "100"))
    with pytest.raises(ValueError, match="at least 10 molecules, got 9"):
        check_reach(argparse.Namespace(sizes=[9], predict_to=100))


def test_predictions_beside_what_is_measured(tmp_path, capsys):
    """Means over draws, in both units of energies; beyond the largest training set nothing is measured."""
    known = power_law(modes=60)
    curves = []
    for seed in (0, 1):
        features, y = known.draw(40, seed)
        curves.append(spectrum(features @ features.T, y).learning_curve([20, 40, 80], 0.1))
    points = [CurvePoint("so3", size, 0.0, rmse, 0.1, 0.0, 0.0) for size, rmse in ((20, 3.0), (20, 4.0), (40, 2.0))]
    points.append(CurvePoint("mlp", 40, 0.0, 9.0, 0.1, 0.0, 0.0))
    found = report_predictions(reach("--test", "7"), curves, points, units_of("kcal/mol"), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[-3:] == ["20", "40", "80"]
    assert lines[1].split() == ["measured", f"{12.5**0.5:.2f}", "2.00"]
    assert lines[2].split() == ["predicted", *(f"{value:.2f}" for value in found.rmse)]
    mev = 1000 * 0.0433641
    assert lines[6].split()[1:] == [f"{mev * 12.5**0.5:.2f}", f"{2 * mev:.2f}"]
    np.testing.assert_allclose(found.mse, (curves[0].mse + curves[1].mse) / 2)
    assert (tmp_path / "predicted_curve.png").stat().st_size > 5_000


class Mean(BaseEstimator):
    """Predicts the mean."""

    ridge_, loo_error_ = 1.0, 2.0

    def fit(self, X, y):
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


def test_fitted_models_are_shown():
    """``inspect`` has each point, and the model that it is of."""
    ase = pytest.importorskip("ase")
    atoms, y, seen = [ase.Atoms("H") for _ in range(6)], np.arange(6.0), []
    learning_curve({"so3": Mean()}, np.zeros((6, 1)), atoms, y, [2, 4], 2, inspect=lambda *pair: seen.append(pair))
    assert [(point.method, point.size, model.mean_) for point, model in seen] == [("so3", 2, 0.5), ("so3", 4, 1.5)]
