"""What importing the packages does to a process: nothing. What is loaded when, and single precision as JAX comes.

All of it in one process, since the start of one takes longer than everything that is asked here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import Dense, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial

ROOT = Path(__file__).parents[1]
#: Brought by estimators, hyperparameters, molecules and pictures, and by nothing else.
LATE = (
    "sklearn",
    "pandas",
    "scipy.stats",
    "scipy.optimize",
    "ase",
    "matplotlib",
    "optax",
    "so3ntk.molecules",
    "so3ntk.learning.predict",
)
#: Loaded when they are first needed, or never.
LATER = ("zarr", "dask", "distributed", "neural_tangents", "ase", "matplotlib", "PIL", "s2fft", "healpy", "torch")

PROCESS = f"""
import contextlib, io, json, sys
import jax
before = dict(jax.config.values)
changed = lambda: [name for name, value in jax.config.values.items() if before[name] != value]
found = {{}}

import so3ntk
found["late"] = [name for name in {LATE} if name in sys.modules]
found["missing"] = [name for name in so3ntk.__all__ if name not in dir(so3ntk)]

known = set(sys.modules)
from so3ntk.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    for command in ([], ["molecules"], ["images"], ["gram"]):
        with contextlib.suppress(SystemExit):
            main([*command, "--help"])
found["help"] = out.getvalue()
found["loaded by help"] = sorted({{name.partition(".")[0] for name in set(sys.modules) - known}})

import planar, planar.datasets, so3ntk.molecules, so3ntk.learning.regressor
found["later"] = [name for name in {LATER} if name in sys.modules]
found["changed"] = changed()
jax.numpy.zeros(())  # imports must not have started a backend in a mode of their own
assert not jax.config.jax_enable_x64

import numpy as np
samples = np.load(sys.argv[1] + "/samples.npy")
x = so3ntk.SphereSignal.from_samples(samples, sampling="gl", bandlimit=3)
layers = so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupConv(), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense()
net = so3ntk.serial(*layers, quadrature=so3ntk.ProductGrid(8), rtol=0.9)
kernels = net.kernel_fn(x)
gram = so3ntk.gram(net, x, progress=False)
np.save(sys.argv[1] + "/kernels.npy", np.stack([kernels.nngp, kernels.ntk, gram]))
found["dtypes"] = [str(a.dtype) for a in (x.coefficients, *kernels, gram)]
found["changed by use"] = changed()

for name in so3ntk.__all__:
    getattr(so3ntk, name)
later = so3ntk.molecules.environments, so3ntk.predict.ensemble, so3ntk.training.train, so3ntk.solvers.solve, so3ntk.saving.load
assert so3ntk.solve is so3ntk.solvers.solve
from so3ntk import molecules, KernelRegressor

from ase.build import molecule
from so3ntk.molecules import environments
ethanol = environments(molecule("CH3CH2OH")).signal.coefficients
assert ethanol.dtype == np.float32 and not jax.config.jax_enable_x64
np.save(sys.argv[1] + "/ethanol.npy", ethanol)
found["cutoff"] = str(environments(molecule("CH3CH2OH"), cutoff=4.0).signal.dtype)
found["asked for"] = str(environments(molecule("HCN"), dtype="float32").signal.dtype)
try:
    environments(molecule("HCN"), dtype="float64")
except ValueError as error:
    found["error"] = str(error)
jax.config.update("jax_enable_x64", True)
found["after the remedy"] = str(environments(molecule("HCN"), dtype="float64").signal.dtype)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def signal():
    return SphereSignal(jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 2))), 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the process reads and writes."""
    return tmp_path_factory.mktemp("fresh")


@pytest.fixture(scope="module")
def found(signal, folder):
    """What the process says: one line of ours, and nothing else is printed."""
    np.save(folder / "samples.npy", np.asarray(signal.to_samples("gl")))
    environment = {**os.environ, "JAX_ENABLE_X64": "0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROCESS, str(folder)], capture_output=True, text=True, check=False,
                          env=environment, cwd=ROOT)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_the_import_is_small_and_everything_is_there_after_it(found):
    assert (found["late"], found["missing"], found["later"]) == ([], [], [])


def test_help_loads_nothing_heavy(found):
    """Beyond what importing the package needs: this package's own files and the standard library."""
    loaded = set(found["loaded by help"])
    assert "so3ntk" in loaded
    assert loaded - {"so3ntk"} <= set(sys.stdlib_module_names)
    assert "--quiet" in found["help"]


def test_configuration_of_jax_is_left_alone(found):
    assert (found["changed"], found["changed by use"]) == ([], [])


def test_kernels_in_single_precision_are_accurate(found, signal, folder):
    assert found["dtypes"] == ["float32"] * 4
    layers = Lift(), Relu(), GroupConv(), Relu(), GroupPool(), Dense()
    double = serial(*layers, quadrature=ProductGrid(8), rtol=0.9).kernel_fn(signal)
    single = np.load(folder / "kernels.npy").astype(np.float64)
    eps = float(np.finfo(np.float32).eps)
    # Sums of some hundred terms at each layer; a kink turns eps in the cosine of an aligned pair into its root.
    for kernel, exact, error in zip(
        single, (*double, double.ntk), (1500 * eps, 8 * eps**0.5, 8 * eps**0.5), strict=True
    ):
        scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert np.max(np.abs(kernel - exact) / scale) < error
    generic = ~np.eye(4, dtype=bool)
    assert np.max(np.abs(single[1] - double.ntk)[generic] / np.max(double.ntk)) < 1500 * eps


def test_environments_are_computed_in_double_precision_whatever_jax_is_set_to(found, folder):
    """With single precision inside, coefficients differ from the rounded ones by many float32 eps."""
    from ase.build import molecule

    from so3ntk.molecules import environments

    expected = environments(molecule("CH3CH2OH")).signal.coefficients
    np.testing.assert_allclose(
        np.load(folder / "ethanol.npy"), np.float32(expected), rtol=2e-7, atol=1e-12 * abs(expected).max()
    )
    assert (found["cutoff"], found["asked for"], found["after the remedy"]) == ("float32", "float32", "float64")
    assert "Call jax.config.update('jax_enable_x64', True) first, or pass dtype='float32'" in found["error"]
