"""Local filters hold one motion's field of a tile of pairs: what compiled programs ask for, and a process at its peak."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planar import GroupConv, GroupPool, Lift
from so3ntk import Dense, Relu, serial
from so3ntk.engine.evaluation.programs import batch_kernels
from so3ntk.engine.plan import make_plan
from so3ntk.engine.sizes import PROCESSOR
from tests.processes import optimized_environment

PROCESS = """
import numpy as np, planar
from so3ntk import Dense, Relu, serial
net = serial(planar.Lift((3, 3), "SAME"), Relu(), planar.GroupConv((3, 3), "SAME"), Relu(), planar.GroupPool(), Dense())
net.kernel_fn(np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32))
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def test_a_tile_stays_small():
    """Of all n^4 numbers of a pair, 67 MB, only those of one motion; depth does not matter."""
    n = 64
    layers = [layer for _ in range(3) for layer in (GroupConv((3, 3), "SAME"), Relu())]
    net = serial(Lift((3, 3), "SAME"), Relu(), *layers, GroupPool(), Dense())
    plan = make_plan(net.layers, None, 1e-4, np.zeros((8, n, n, 3), np.float32), None)
    tile = plan.cell(8, 8)
    program = batch_kernels.lower(plan.evaluation, plan.f, plan.f, ("nngp", "ntk"), tile).compile()
    assert program.compiled.memory_analysis().temp_size_in_bytes < 4 * PROCESSOR.cell_bytes


@pytest.mark.parametrize(("n", "tile"), [(8, (8, 8)), (32, (4, 2))])
def test_few_large_images_are_not_filled_up_to_many(n, tile):
    """Eight by eight pairs of 32 x 32 pixels take seconds."""
    net = serial(Lift((3, 3), "SAME"), Relu(), GroupPool(), Dense())
    plan = make_plan(net.layers, None, 1e-4, np.zeros((3, n, n, 3), np.float32), np.zeros((2, n, n, 3), np.float32))
    assert plan.cell(3, 2) == tile


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of a process")
def test_a_process():
    """32 x 32 pixels in 1 GiB, JAX and compilation included; 0.41 GiB measured, as for 64 x 64."""
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True,
                          env=optimized_environment())  # fmt: skip
    assert int(done.stdout.split()[-1]) < 2**20
