"""Gram matrices on several devices: four fake ones of the CPU, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import Dense, Flatten, GroupPool, Lift, ProductGrid, Relu, SphereSignal, gram, open_gram, serial
from so3ntk.molecules import AtomSum, Environments

ROOT = Path(__file__).parents[2]
NETWORKS = {
    "tower": serial(Lift(b_std=0.5), Relu(), GroupPool(), Dense(), quadrature=ProductGrid(4), rtol=0.9),
    "molecules": serial(Flatten(), Dense(b_std=0.5), Relu(), Dense(), AtomSum(match_species=True)),
}
CHILD = """
import json, sys, threading
import jax
jax.config.update("jax_enable_x64", sys.argv[2] == "global")
import numpy as np
from so3ntk import gram
from so3ntk.basics.double import double_precision
from so3ntk.matrices.work import Work
from tests.matrices.test_devices import NETWORKS, batches
used, on = [], Work.on
Work.on = lambda self, device: used.append(str(device)) or on(self, device)
with double_precision():  # of this thread alone, unless it is global
    x = batches()
    values = {name: gram(net, x[name], progress=False) for name, net in NETWORKS.items()}
    stored = gram(NETWORKS["tower"], x["tower"], store=sys.argv[1] + "/run.zarr", progress=False)
np.savez(sys.argv[1] + "/values.npz", **values)
same = np.array_equal(stored, values["tower"])
print(json.dumps({"devices": len(jax.devices()), "used": len(set(used)), "tiles": len(stored.tiling.tiles), "same": same}))
"""


def batches():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    atoms = SphereSignal(jnp.asarray(rng.normal(size=(len(owner), 4, 2))), 2)
    signals = SphereSignal(jnp.asarray(rng.normal(size=(150, 9, 2))), 3)
    return {"tower": signals, "molecules": Environments(atoms, owner, rng.choice([1, 6], len(owner)))}


@pytest.mark.slow
def test_four_devices(tmp_path):
    """The same kernels to rounding as on one, all four at work; double precision of the calling thread alone is kept."""
    pytest.importorskip("zarr")
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu",
                   "PYTHONPATH": str(ROOT), "JAX_ENABLE_X64": "0"}  # fmt: skip
    command = [sys.executable, "-c", CHILD, str(tmp_path), "local"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["devices"], said["used"], said["same"]) == (4, 4, True)
    assert said["tiles"] >= 10
    eps, x = np.finfo(np.float64).eps, batches()
    for name, values in np.load(tmp_path / "values.npz").items():
        alone = gram(NETWORKS[name], x[name], progress=False)
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, values.T)
        np.testing.assert_allclose(values, alone, rtol=0, atol=16 * eps * np.abs(alone).max())
    assert open_gram(tmp_path / "run.zarr").complete
    assert len(jax.devices()) == 1
