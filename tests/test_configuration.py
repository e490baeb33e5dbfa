"""What importing the packages does to a process: nothing. And what their sources may not contain."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from so3ntk import Dense, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal, serial

ROOT = Path(__file__).parents[1]
#: Loaded when they are first needed, or never.
LATE = ("zarr", "dask", "distributed", "neural_tangents", "ase", "matplotlib", "s2fft", "healpy", "torch")

FRESH = """
import json, sys
import jax
before = dict(jax.config.values)
import planar, so3ntk, so3ntk.molecules, so3ntk.cli, so3ntk.learning.regressor
changed = [name for name, value in jax.config.values.items() if before[name] != value]
loaded = [name for name in sys.argv[2].split() if name in sys.modules]
jax.numpy.zeros(())  # imports must not have started a backend in a mode of their own
import numpy as np
assert not jax.config.jax_enable_x64
samples = np.load(sys.argv[1] + "/samples.npy")
x = so3ntk.SphereSignal.from_samples(samples, sampling="gl", bandlimit=3)
layers = so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupConv(), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense()
net = so3ntk.serial(*layers, quadrature=so3ntk.ProductGrid(8), rtol=0.9)
kernels = net.kernel_fn(x)
gram = so3ntk.gram(net, x, progress=False)
np.save(sys.argv[1] + "/kernels.npy", np.stack([kernels.nngp, kernels.ntk, gram]))
dtypes = [str(a.dtype) for a in (x.coefficients, *kernels, gram)]
after = [name for name, value in jax.config.values.items() if before[name] != value]
print(json.dumps({"changed": changed, "loaded": loaded, "dtypes": dtypes, "changed by use": after}))
"""


def test_a_fresh_process_with_x64_off(tmp_path):
    """One process for all: imports leave JAX and the console alone, and kernels are float32 and accurate."""
    x = SphereSignal(jnp.asarray(np.random.default_rng(0).normal(size=(4, 9, 2))), 3)
    np.save(tmp_path / "samples.npy", np.asarray(x.to_samples("gl")))
    environment = {**os.environ, "JAX_ENABLE_X64": "0", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FRESH, str(tmp_path), " ".join(LATE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()  # ours: nothing else is printed
    expected = {"changed": [], "loaded": [], "dtypes": ["float32"] * 4, "changed by use": []}
    assert json.loads(line) == expected
    layers = Lift(), Relu(), GroupConv(), Relu(), GroupPool(), Dense()
    double = serial(*layers, quadrature=ProductGrid(8), rtol=0.9).kernel_fn(x)
    single = np.load(tmp_path / "kernels.npy").astype(np.float64)
    eps = float(np.finfo(np.float32).eps)
    # Sums of some hundred terms at each layer; a kink turns eps in the cosine of an aligned pair into its root.
    for kernel, exact, error in zip(
        single, (*double, double.ntk), (1500 * eps, 8 * eps**0.5, 8 * eps**0.5), strict=True
    ):
        scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert np.max(np.abs(kernel - exact) / scale) < error
    generic = ~np.eye(4, dtype=bool)
    assert np.max(np.abs(single[1] - double.ntk)[generic] / np.max(double.ntk)) < 1500 * eps


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_internals_of_jax():
    """Of ``jax.core`` only ``Tracer``, which JAX documents: the rest of it comes and goes."""
    offending = re.compile(r"jax\._src|from jax import .*\bcore\b|jax\.core(?!\.Tracer\b| import Tracer$)", re.M)
    assert offending.search("from jax.core import Tracer, Trace")
    for path in sources("so3ntk", "planar"):
        assert not offending.search(path.read_text()), path


def test_no_file_is_too_long():
    files = sources("so3ntk", "planar", "tests", "benchmarks", "examples")
    assert len(files) > 50
    assert {str(path.relative_to(ROOT)): n for path in files if (n := len(path.read_text().splitlines())) > 400} == {}
