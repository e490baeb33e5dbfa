"""Saved regressors of vectors, tensors, and of energies with forces: the same after loading, or refused."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Dense,
    Erf,
    Flatten,
    GroupPool,
    IrrepPool,
    KernelRegressor,
    Lift,
    ProductGrid,
    SphereSignal,
    TensorKernelRegressor,
    load,
    save,
    serial,
)
from so3ntk.errors import ModelFileError, PrecisionError
from so3ntk.molecules import AtomSum, EnergyForceRegressor, Shells, environments
from tests.molecules.springs import SETTINGS, springs, waters
from tests.oracles.harmonics import white_signals
from tests.regression_cases import MLP, signals
from tests.saved_files import rewritten, set_at

X = SphereSignal(jnp.asarray(white_signals(8, 3, 2, seed=0)), 3)
RNG = np.random.default_rng(1)
VECTORS, ROOTS = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 3, 3))
TARGETS = {"vectors": VECTORS, "tensors": ROOTS + ROOTS.swapaxes(1, 2)}
#: Linear, which compiles at once.
NET = serial(Lift(), IrrepPool(1), Dense(W_std=1.1), quadrature=ProductGrid(8))
SURFACE = serial(Lift(W_std=0.1, b_std=0.5), Erf(), GroupPool(), Dense(), AtomSum(match_species=True),
                 quadrature=ProductGrid(8), rtol=0.5)  # fmt: skip
WATERS = waters(5, seed=0)


@pytest.fixture(scope="module")
def tensors():
    return TensorKernelRegressor(NET, ridge=0.1).fit(X, TARGETS["tensors"])


@pytest.fixture(scope="module")
def forces():
    model = EnergyForceRegressor(SURFACE, environment=SETTINGS, energy_noise=1e-6, force_noise=1e-4)
    return model.fit(WATERS, *springs(WATERS))


def same_after_loading(model, x, path, diagonal=None):
    save(model, path)
    again = load(path, check=True)
    for a, b in zip(again.predict(x, True, diagonal), model.predict(x, True, diagonal), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.ridge_ == model.ridge_
    assert again.loo_error_ == model.loo_error_
    np.testing.assert_array_equal(again.loo_residuals_, model.loo_residuals_)
    save(model, path, spectrum=False)
    again = load(path, check=True)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    with pytest.raises(ValueError, match="left out of the saved file"):
        again.predict(x, return_std=True)


def test_tensors(tensors, tmp_path):
    same_after_loading(tensors, X, tmp_path / "model")


@pytest.mark.parametrize("name", list(TARGETS))
def test_precomputed(name, tmp_path):
    factors = {degree: RNG.normal(size=(8, 2 * degree + 1, 20)) for degree in (0, 1, 2)}
    kernels = {degree: np.einsum("iak,jbk->ijab", f, f) for degree, f in factors.items()}
    kernels[0] = kernels[0][..., 0, 0]
    model = TensorKernelRegressor("precomputed", ridge=0.1).fit(kernels, TARGETS[name])
    diagonal = {degree: np.einsum("ii...->i...", kernel) for degree, kernel in kernels.items()}
    same_after_loading(model, kernels, tmp_path / "model", diagonal)


def test_forces(forces, tmp_path):
    test = waters(2, seed=1)
    save({"surface": forces, "alone": forces}, tmp_path / "model")
    again = load(tmp_path / "model", check=True)["surface"]
    assert again.energy_noise_ == forces.energy_noise_ != forces.force_noise_ == again.force_noise_
    for with_std in (False, True):
        for a, b in zip(again.predict(test, with_std), forces.predict(test, with_std), strict=True):
            np.testing.assert_array_equal(a, b)  # None too
    save(forces, tmp_path / "model", spectrum=False)
    again = load(tmp_path / "model", check=True)
    np.testing.assert_array_equal(again.predict(test).energies, forces.predict(test).energies)
    with pytest.raises(ValueError, match="left out of the saved file"):
        again.predict(test, return_std=True)


def test_molecules_are_kept_as_they_were_fitted(tmp_path):
    atoms = waters(3, seed=2)
    for molecule in atoms:
        molecule.set_cell([5.0, 6.0, 7.0])
        molecule.pbc = (True, False, True)
    settings = {**SETTINGS, "cutoff": 3.0}
    model = EnergyForceRegressor(SURFACE, environment=settings, energy_noise=1e-6, baseline=False)
    model.fit(atoms, springs(atoms)[0])
    expected = model.predict(atoms).energies
    save(model, tmp_path / "model")
    again = load(tmp_path / "model", check=True)
    np.testing.assert_array_equal(again.predict(atoms).energies, expected)
    assert again.atoms_[0].pbc.tolist() == [True, False, True]
    atoms[0].positions += 1
    assert np.abs(model.atoms_[0].positions - atoms[0].positions).min() > 0.9


PROCESS = """
import json, sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import so3ntk
folder = sys.argv[1]
surface = so3ntk.load(folder + "/forces", check=True)  # nothing of what it needs is imported yet
import ase
found = surface.predict([ase.Atoms("OHH", positions) for positions in np.load(folder + "/positions.npy")])
signals = so3ntk.SphereSignal(np.load(folder + "/signals.npy"), 2)
values = so3ntk.load(folder + "/kernel", check=True).predict(signals)
print(json.dumps([found.energies.tolist(), np.array(found.forces).tolist(), values.tolist()]))
jax.config.update("jax_enable_x64", False)
print("single", file=sys.stderr)
so3ntk.load(folder + "/kernel", check=True)
"""


@pytest.mark.slow
def test_another_process_and_single_precision(forces, tmp_path):
    """The same bits of a surface and of a regressor of signals; a file in double precision is refused in single."""
    test, (x, y) = waters(2, seed=1), signals(6)
    model = KernelRegressor(MLP, ridge=0.1).fit(x, y)
    save(forces, tmp_path / "forces")
    save(model, tmp_path / "kernel")
    np.save(tmp_path / "positions.npy", [a.positions for a in test])
    np.save(tmp_path / "signals.npy", x.coefficients)
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    double, single = done.stderr.split("single\n")
    assert (double, done.returncode) == ("", 1)
    assert "saved in double precision, but JAX is set to 32 bits" in single
    for found, own in zip(json.loads(done.stdout), (*forces.predict(test)[:2], model.predict(x)), strict=True):
        np.testing.assert_array_equal(found, own)


def test_environments_keep_what_their_channels_mean(tmp_path):
    shells = {"species": ("H", "O"), "bandlimit": 2, "radial": Shells(3, width=0.1)}
    y = environments(WATERS, **shells)
    save(
        KernelRegressor(serial(Flatten(), Dense(), AtomSum()), ridge=0.1).fit(y, springs(WATERS)[0]),
        tmp_path / "shells",
    )
    assert load(tmp_path / "shells", check=True).X_fit_.settings == y.settings
    x = environments(WATERS, **SETTINGS)
    model = KernelRegressor(serial(Flatten(), Dense(), AtomSum()), ridge=0.1).fit(x, springs(WATERS)[0])
    save(model, tmp_path / "model")
    again = load(tmp_path / "model", check=True)
    assert again.X_fit_.settings == x.settings
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    with pytest.raises(ValueError, match=r"powers \(1.0, 3.0\) and \(1.0, 2.0\)|powers \(1.0, 2.0\) and \(1.0, 3.0\)"):
        again.predict(environments(WATERS, **{**SETTINGS, "powers": (1.0, 2.0)}))


FITTED = ("models", "model", "fitted")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at(*FITTED, "parts", value={"dict": {}}), "not of vectors or tensors"),
        (set_at(*FITTED, "parts", "dict", "2", "dict", "alpha", value=1), "cannot be made"),
        (set_at(*FITTED, "kernels", value=1), "one of its attributes is not known"),
        (lambda document, arrays: arrays["model.parts.2.dual_coef"].__setitem__(0, np.nan), "not finite"),
        (lambda document, arrays: arrays.update({"model.parts.2.dual_coef": np.ones((2, 5))}), "not as many"),
    ],
)
def test_hostile_tensors(change, message, tensors, tmp_path):
    save(tensors, tmp_path / "model")
    with pytest.raises(ModelFileError, match=message):
        load(rewritten(tmp_path / "model", change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at(*FITTED, "atoms", "dict", "velocities", value=1), "cannot be made"),
        (set_at(*FITTED, "with_forces_", value=False), "not as many"),
        (lambda document, arrays: arrays["model.atoms.positions"].__setitem__(0, np.nan), "finite coordinates"),
        (lambda document, arrays: arrays["model.atoms.numbers"].__setitem__(0, 92), "not among the species"),
        (lambda document, arrays: arrays.update({"model.atoms.sizes": np.array([3])}), "cannot be made"),
        (lambda document, arrays: arrays.update({"model.dual_coef_": np.ones(4)}), "not as many"),
    ],
)
def test_hostile_forces(change, message, forces, tmp_path):
    save(forces, tmp_path / "model", spectrum=False)
    with pytest.raises(ModelFileError, match=message):
        load(rewritten(tmp_path / "model", change))


@pytest.mark.parametrize("change", [
    lambda document, arrays: arrays["model.parts.2.dual_coef"].__imul__(1 + 1e-4),
    lambda document, arrays: arrays["model.X_fit_.coefficients"].__imul__(1 + 1e-4),
])  # fmt: skip
def test_tensors_that_are_others(change, tensors, tmp_path):
    save(tensors, tmp_path / "model")
    rewritten(tmp_path / "model", change)
    load(tmp_path / "model")
    with pytest.raises(PrecisionError, match=r"predictions .* differ by .*, more than rounding"):
        load(tmp_path / "model", check=True)


@pytest.mark.parametrize("change", [
    lambda document, arrays: arrays["model.dual_coef_"].__imul__(1 + 1e-4),
    lambda document, arrays: arrays["model.atoms.positions"].__iadd__(np.eye(3)[np.arange(15) % 3] * 1e-4),
    set_at("models", "model", "parameters", "environment", "dict", "length", value=1.001),
    lambda document, arrays: arrays["model.baseline_.values"].__imul__(1 + 1e-4),
])  # fmt: skip
def test_surfaces_that_are_others(change, forces, tmp_path):
    save(forces, tmp_path / "model", spectrum=False)
    rewritten(tmp_path / "model", change)
    load(tmp_path / "model")
    with pytest.raises(PrecisionError, match=r"predictions .* differ by .*, more than rounding"):
        load(tmp_path / "model", check=True)
