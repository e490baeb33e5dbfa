"""Gram matrices: tiles, symmetry, sums over atoms, progress and memory."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    ExplicitGrid,
    Flatten,
    GroupConv,
    GroupPool,
    IrrepPool,
    Kernels,
    Lift,
    ProductGrid,
    Relu,
    SphereSignal,
    gram,
    serial,
)
from so3ntk.engine.evaluation import tiles
from so3ntk.engine.evaluation.tiles import make_tiling
from so3ntk.engine.plan import make_plan
from so3ntk.engine.sizes import on_gpu
from so3ntk.molecules import AtomSum, Environments
from so3ntk.sphere.positions import SphereGrid
from so3ntk.sphere.quadrature import LocalGrid
from tests import conformance
from tests.conformance import Architecture
from tests.oracles.harmonics import white_signals
from tests.processes import optimized_environment

EPS = np.finfo(np.float64).eps
OCTAHEDRAL = ExplicitGrid(Rotation.create_group("O"))
MLP = serial(Flatten(), Dense(b_std=0.3), Erf(), Dense())

#: What is compared is a processor's form of the program, or what its sizes lead to.
PROCESSOR = pytest.mark.skipif(on_gpu(), reason="the sizes and programs of a processor")


def signals(n, seed=0, dtype=np.float64):
    return SphereSignal(jnp.asarray(white_signals(n, 2, 1, seed), dtype), 2)


@pytest.mark.parametrize(
    "net",
    [
        serial(Lift(b_std=0.4), Relu(), GroupPool(), Dense(), quadrature=ProductGrid(12)),
        serial(Lift(group="O3"), Relu(), IrrepPool(1), quadrature=ProductGrid(4)),
        serial(Lift(), Relu(), GroupConv(bandlimit=2), Relu(), GroupPool(), Dense(), quadrature=ProductGrid(4)),
    ],
    ids=["54 representatives", "irreps", "layer by layer"],
)
@PROCESSOR
def test_the_program_for_many_pairs_has_the_same_kernels(net, monkeypatch):
    """Its sums are unrolled, and its grid padded to whole vectors with rotations of weight zero."""
    x = signals(6)
    expected = gram(net, x, progress=False)
    for module in ("sphere.transforms.grid", "engine.plan"):
        monkeypatch.setattr(f"so3ntk.{module}.MANY", 1)
    grid = make_plan(net.layers, net.quadrature, net.rtol, x, None).evaluation.motions
    assert grid.unrolled
    assert len(grid.weights) % 8 == 0
    found = gram(net, x, progress=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * EPS * np.abs(expected).max())


# --- tiles


@pytest.mark.parametrize(
    "layers",
    [
        (Lift(), Relu(), GroupConv(), Relu(), GroupPool(), Dense()),
        (Lift(), Erf(), GroupConv(bandlimit=2), Erf(), GroupPool()),
        (Flatten(), Dense(), Relu(), Dense()),
    ],
    ids=["tower", "layer by layer", "vectors"],
)
def test_tiles(layers):
    kinked = any(isinstance(layer, Relu) for layer in layers)
    n = 37 if len(layers) != 5 else 19  # layer by layer a signal costs ten times as much
    conformance.check_tiles(Architecture("tiled", lambda grid: serial(*layers, quadrature=grid), 2, kinked), n)


def test_two_batches():
    x, y = signals(11), signals(5, seed=1)
    both = gram(MLP, x, y, get=("nngp", "ntk"), tile=4, progress=False)
    for kernel, expected in zip(both, MLP.kernel_fn(x, y), strict=True):
        assert isinstance(kernel, np.ndarray)
        assert kernel.shape == (11, 5)
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=8 * EPS * np.max(expected))
    np.testing.assert_allclose(gram(MLP, y, x, progress=False), both.ntk.T, rtol=0, atol=8 * EPS * np.max(both.ntk))


def test_one_row_and_the_names_asked_for():
    x = signals(4)
    ntk = gram(MLP, x, progress=False)
    np.testing.assert_allclose(gram(MLP, x[:1], progress=False), ntk[:1, :1], rtol=8 * EPS)
    np.testing.assert_array_equal(gram(MLP, x, get="ntk", progress=False), ntk)
    only = gram(MLP, x, get=("nngp",), progress=False)
    assert isinstance(only, Kernels)
    assert only.ntk is None
    swapped = gram(MLP, x, get=("ntk", "nngp"), progress=False)
    np.testing.assert_allclose(swapped.ntk, ntk, rtol=8 * EPS)  # two kernels in one program round otherwise
    np.testing.assert_allclose(swapped.nngp, only.nngp, rtol=8 * EPS)
    assert np.abs(only.nngp - ntk).max() > 0.1  # they are not one kernel


def test_single_precision():
    x = signals(4)
    single = gram(MLP, SphereSignal(x.coefficients.astype(np.float32), 2), progress=False)
    assert single.dtype == np.float32
    double = gram(MLP, x, progress=False)
    np.testing.assert_allclose(single, double, rtol=0, atol=100 * np.finfo(np.float32).eps * double.max())


@pytest.mark.xfail(jax.__version_info__ < (0, 6), strict=True, reason="loops do not run at trace time on jax 0.5")
def test_in_a_function_that_is_traced():
    """Signals that are not traced have concrete kernels there."""
    x = signals(4)
    traced = jax.jit(lambda a: a * gram(MLP, x, progress=False))(2.0)
    np.testing.assert_allclose(traced, 2 * gram(MLP, x, progress=False), rtol=4 * EPS)


# --- sums over atoms


def molecules(seed, elements, sizes=(3, 1, 4, 2), dtype=np.float64):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    numbers = rng.choice(elements, len(owner))
    numbers[0] = elements[0]
    return Environments(signals(len(owner), seed, dtype), owner, numbers)


def double_sum(kernel, x, y, match_species):
    """sum_ij K(f_i, f'_j) over the atoms of each pair of molecules, one by one."""
    total = np.zeros((len(x), len(y)))
    for i, row in enumerate(x.molecule):
        for j, column in enumerate(y.molecule):
            if not match_species or x.numbers[i] == y.numbers[j]:
                total[row, column] += float(kernel[i, j])
    return total


@pytest.mark.parametrize("match_species", [True, False])
@pytest.mark.parametrize("own", [True, False], ids=["one batch", "two batches"])
def test_sum_over_atoms(match_species, own):
    x, y = molecules(0, [1, 6, 8]), molecules(1, [6, 9, 1])
    y = x if own else y
    net = serial(*MLP.layers, AtomSum(match_species=match_species))
    atoms = MLP.kernel_fn(x.signal, None if own else y.signal)
    for tile in (None, 1, 3):
        found = gram(net, x, None if own else y, get=("nngp", "ntk"), tile=tile, progress=False)
        for kernel, atomic in zip(found, atoms, strict=True):
            expected = double_sum(atomic, x, y, match_species)
            np.testing.assert_allclose(kernel, expected, rtol=0, atol=32 * EPS * np.abs(expected).max())
            if own:
                np.testing.assert_array_equal(kernel, kernel.T)
    for part, shape in (((x[:0], None), (0, 0)), ((x[:0], y), (0, 4)), ((x, y[:0]), (4, 0))):
        assert gram(net, *part, progress=False).shape == shape
    assert not match_species or np.any(x.numbers[:, None] != y.numbers)


def test_molecules_without_a_common_element():
    net = serial(*MLP.layers, AtomSum(match_species=True))
    assert not np.any(gram(net, molecules(0, [1, 6]), molecules(1, [7, 8]), progress=False))


def test_layers_after_the_sum():
    """Dense acts on molecules: Theta of it needs the NNGP, whichever kernel is asked for."""
    x = molecules(0, [1, 6])
    nngp, ntk = (double_sum(k, x, x, True) for k in MLP.kernel_fn(x.signal))
    net = serial(*MLP.layers, AtomSum(match_species=True), Dense(W_std=2.0, b_std=0.5))
    expected = {"nngp": 4 * nngp + 0.25, "ntk": 4 * nngp + 0.25 + 4 * ntk}
    for get, values in expected.items():
        found = gram(net, x, get=get, tile=2, progress=False)
        np.testing.assert_allclose(found, values, rtol=0, atol=32 * EPS * values.max())


def test_sums_over_atoms_are_in_double_precision():
    """A thousand float32 kernels, added in float64 and rounded once."""
    x = molecules(0, [1], sizes=(40, 25), dtype=np.float32)
    atoms = MLP.kernel_fn(x.signal, None, "ntk")
    found = gram(serial(*MLP.layers, AtomSum()), x, tile=1, progress=False)
    assert (atoms.dtype, found.dtype) == (np.float32, np.float32)
    once = 0.75 * np.finfo(np.float32).eps  # half of eps, and what other blocks may do to single kernels
    np.testing.assert_allclose(found, double_sum(atoms, x, x, False), rtol=once)


# --- progress


def test_progress(capsys):
    gram(MLP, signals(6), tile=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Gram matrix" in err
    assert "24.0/24.0" in err  # six of the nine blocks of four pairs: those on and below the diagonal
    assert "pairs/s" in err
    gram(MLP, signals(6), tile=2, progress=False)
    assert tuple(capsys.readouterr()) == ("", "")


# --- memory


def test_a_budget_too_small_says_how_much_is_needed():
    with pytest.raises(MemoryError, match=r"need \d+ MiB, more than the budget of 1 MiB") as error:
        gram(MLP, signals(2), memory="1MiB", progress=False)
    needed = int(str(error.value).split("need ")[1].split(" MiB")[0])
    gram(MLP, signals(2), memory=f"{needed + 1}MiB", progress=False)
    with pytest.raises(MemoryError, match=f"need {needed} MiB"):
        gram(MLP, signals(2), memory=f"{needed - 1}MiB", progress=False)


def test_a_finer_grid_needs_more():
    needed = []
    for n in (8, 64):
        net = serial(Lift(), Relu(), GroupPool(), quadrature=so3ntk.ProductGrid(n))
        with pytest.raises(MemoryError) as error:
            gram(net, signals(2), memory=1, progress=False)
        needed.append(int(str(error.value).split("need ")[1].split(" MiB")[0]))
    assert needed[0] < needed[1]


@PROCESSOR
def test_smaller_blocks_have_the_same_values(capsys):
    """A budget of little more than the least makes blocks of fewer than 70 rows."""
    x, found = signals(70), {}
    for memory, pairs in (("2GiB", "4.90k/4.90k"), ("25.3MB", "k/")):
        found[memory] = gram(MLP, x, memory=memory, progress=True)
        progress = capsys.readouterr().err
        assert pairs in progress
    assert "4.90k/4.90k" not in progress  # blocks above the diagonal were left out
    whole, tight = found.values()
    np.testing.assert_allclose(tight, whole, rtol=0, atol=8 * EPS * whole.max())


PEAK = """
import json, re, sys
from pathlib import Path
import numpy as np
import jax
jax.config.update("jax_enable_x64", True)
from scipy.spatial.transform import Rotation
import so3ntk

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

budget, folder = int(sys.argv[1]), sys.argv[2]
grid = so3ntk.ExplicitGrid(Rotation.create_group("O"))
layers = [so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupPool()]
net = so3ntk.serial(*layers, quadrature=grid, rtol=0.9)

def used(n, stored):
    x = so3ntk.SphereSignal(np.random.default_rng(0).normal(size=(n, 9, 2)), 3)
    options = dict(memory=budget, progress=False)
    store = lambda name: {"store": folder + name} if stored else {}
    so3ntk.gram(net, x[:600], **options, **store("/first"))  # what is compiled and imported
    before = peak()
    kernel = so3ntk.gram(net, x, **options, **store("/second"))
    return peak() - before, 0 if stored else kernel.nbytes

found = [used(1000, False)]
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
print(json.dumps([*found, used(2150, True)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_peak_memory(tmp_path):
    """Everything beyond the result stays within the budget, with a fifth to spare; in a store the result does too.

    By the kernel's own record of the process: ``getrusage`` hands the parent's peak on to the child.
    """
    pytest.importorskip("zarr")
    budget = 32 * 2**20
    environment = {**optimized_environment(), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PEAK, str(budget), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    for used, result in json.loads(done.stdout):
        assert used < result + 1.2 * budget


def test_a_cell_of_inputs_with_themselves_is_computed_once(monkeypatch):
    """It holds K(f, f') and K(f', f), which differ by the grid's error for filters on caps; other cells take two."""
    grid = LocalGrid(ProductGrid(4), SphereGrid(4))
    net = serial(Lift(support=1.0), Relu(), GroupPool(), Dense(), quadrature=grid)
    x = SphereSignal(np.random.default_rng(0).normal(size=(6, 4, 1)), 2)
    plan = make_plan(net.layers, net.quadrature, 1e-4, x, None)
    counts = []
    cell_kernels = tiles._kernels_of_cells
    monkeypatch.setattr(tiles, "_kernels_of_cells", lambda *args: counts.append(1) or cell_kernels(*args))
    square = np.asarray(cell_kernels(plan, ("ntk",), plan.f[None, :6], plan.f[None, :6])[0])[0]
    for side, expected in ((8, 1), (4, 2 + 2)):
        counts.clear()
        found = tiles.host_kernels(plan, ("ntk",), tiles.make_tiling(plan, side))[0]
        assert len(counts) == expected
        np.testing.assert_allclose(found, (square + square.T) / 2, rtol=1e-6)
    assert np.abs(square - square.T).max() > 1e-5


@PROCESSOR
def test_several_cells_of_a_dispatch():
    """From 182 inputs on four cells go to the device at a time; the last of them are not forgotten."""
    x = signals(200)
    plan = make_plan(MLP.layers, None, 1e-4, x, None)
    assert make_tiling(plan).cells == 4
    found = gram(MLP, x, progress=False)
    np.testing.assert_allclose(found, MLP.kernel_fn(x, x, "ntk"), rtol=0, atol=8 * EPS * found.max())
    for rows in (slice(0, 5), slice(190, 200)):
        np.testing.assert_allclose(found[rows], MLP.kernel_fn(x[rows], x, "ntk"), rtol=0, atol=8 * EPS * found.max())
