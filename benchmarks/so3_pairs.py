"""Microseconds per pair of signals: the collapsed tower, layer by layer, the G x G recursion, neural-tangents.

    python benchmarks/so3_pairs.py [--quick] [--float64] [--rotations-n 16] [--rotations-n-beta 7]

All columns are measured in one run, in turns, and the median of several turns is printed; ratios are medians of the
turns' ratios. White unit-variance signals of ten channels, ReLU networks Lift - (Relu - GroupConv) ... GroupPool -
Dense without biases, NTK alone, one rotation grid for all (16 x 7 x 16 = 1,792 rotations). The G x G recursion is the
slow oracle of the tests, run for one pair on a Driscoll-Healy grid. The column of neural-tangents (its dense kernel,
averaged over the same rotations) appears where it imports: on jax 0.5.0 to 0.5.3.

A second table has networks that are polynomials in their kernel, Lift - Products([0, ..., 0, 1]) - GroupPool - Dense, on the
grids that integrate them exactly, beside one ReLU layer on 12 x 6 x 12 rotations, the base grid of rtol = 1e-4 at L = 4,
and on those of rtol = 1e-4 for aligned pairs, 20 x 10 x 20; with 1 and with 80 channels; and what ``gram`` does with squares:
inner products of power spectra, of 1,024 signals with themselves. --only-products: it alone.

--bandlimits 8 12 16 24 32 48 --picture cost.png: a table of its own, a ReLU layer on one channel on 2 L x L x 2 L rotations, by dense
tables (up to L = 16), axis by axis, and by s2fft's inverse Wigner transform in JAX (the transform alone, of a batch); processor time of one core (XLA's threads switched off), the fastest turn, and the exponent of its growth.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def relu_network(so3ntk, depth: int):
    hidden = [layer for _ in range(depth - 1) for layer in (so3ntk.Relu(), so3ntk.GroupConv())]
    return so3ntk.serial(so3ntk.Lift(), *hidden, so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense())


def white_signals(n: int, bandlimit: int, channels: int, dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, bandlimit**2, channels)) * np.sqrt(4 * np.pi / bandlimit**2)
    return jax.numpy.asarray(values, dtype)


def block_runner(net, grid, x, nodes: int, tile: int | None = None) -> tuple[Callable, int]:
    """A call that computes the NTK of all pairs of x, and their number; nodes = 0 goes layer by layer."""
    from so3ntk.engine.evaluation.evaluation import Whole
    from so3ntk.engine.evaluation.polynomial import collapse
    from so3ntk.engine.evaluation.programs import batch_kernels
    from so3ntk.engine.evaluation.tower import Nodes

    evaluation = collapse(net.layers, grid, Nodes(nodes)) if nodes else Whole(net.layers, grid)
    tile = tile or (32 if nodes and x.dtype.itemsize == 4 else 16 if nodes else 8)
    return lambda: jax.block_until_ready(batch_kernels(evaluation, x, x, ("ntk",), (tile, tile))), len(x) ** 2


def gram_runner(so3ntk, net, x) -> tuple[Callable, int]:
    """A call of ``gram`` as users make it, which takes inner products of features for such networks, and its pairs."""
    return lambda: so3ntk.gram(net, x, x, progress=False), len(x) ** 2


def neural_tangents_runner(depth: int, rotations, weights, x, bandlimit: int) -> tuple[Callable, int] | None:
    """neural-tangents' dense kernel of the coefficient vectors, averaged over the rotations; None without it."""
    try:
        from neural_tangents import stax
    except ImportError:
        return None
    from so3ntk.sphere.rotations import real_wigner_D

    layers = [stax.Dense(1)] + [layer for _ in range(depth) for layer in (stax.Relu(), stax.Dense(1))]
    kernel = jax.jit(stax.serial(*layers)[2], static_argnames="get")
    n, p, _ = x.shape
    blocks = [real_wigner_D(degree, rotations) for degree in range(bandlimit)]

    def run():
        scale = np.sqrt(p / (4 * np.pi))  # its kernel is the mean over entries, ours over sphere and channels
        flat = (x * scale).reshape(n, -1)
        for signal in x:
            parts = [d @ np.asarray(signal[degree**2 : (degree + 1) ** 2]) for degree, d in enumerate(blocks)]
            rotated = jax.numpy.asarray(np.concatenate(parts, axis=1).reshape(len(weights), -1) * scale, x.dtype)
            kernel(flat, rotated, get="ntk").astype(float) @ weights

    return run, n * n


def gxg_runner(depth: int, x, bandlimit: int) -> tuple[Callable, int]:
    from tests.oracles.gxg import driscoll_healy_grid, gxg_kernels

    layers = ["relu"] * depth
    grid = driscoll_healy_grid(bandlimit)
    f, g = (np.asarray(signal, np.float32) for signal in x[:2])
    return lambda: gxg_kernels(f, g, bandlimit, layers=layers, grid=grid), 1


def measure(runners: dict[str, tuple[Callable, int]], turns: int) -> dict[str, list[float]]:
    """Microseconds per pair in each turn, all runners taking their turn after the other."""
    for run, _ in runners.values():
        run()  # compile
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(turns):
        for name, (run, pairs) in runners.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / pairs * 1e6)
    return times


def products_table(so3ntk, dtype, turns: int) -> None:
    """Microseconds per pair of polynomial towers on their exact grids beside one ReLU layer, with 1 and 80 channels."""
    from so3ntk.sphere.quadrature import exact_grid
    from so3ntk.sphere.transforms.grid import Grid

    pooled = so3ntk.GroupPool(), so3ntk.Dense()
    relu = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), *pooled)
    print(f"{'L':>3}{'channels':>10}{'network':>16}{'grid':>14}{'rotations':>11}{'us per pair':>13}{'ReLU / it':>11}")
    for bandlimit in (4, 6):
        for channels in (1, 80):
            x = white_signals(256, bandlimit, channels, dtype)
            networks = {("ReLU", grid): (relu, grid) for grid in (so3ntk.ProductGrid(12), so3ntk.ProductGrid(20))}
            for degree in (2, 3, 4) if bandlimit == 4 else (2, 3):
                net = so3ntk.serial(so3ntk.Lift(), so3ntk.Products([0] * degree + [1.0]), *pooled)
                networks[f"Products, {degree}", None] = net, exact_grid(net.layers, bandlimit)
            nodes = 34 if np.dtype(dtype).itemsize == 8 else 16
            runners = {
                key: block_runner(net, Grid.load(grid, bandlimit, dtype, pairs=2**20), x, nodes)
                for key, (net, grid) in networks.items()
            }
            square = next(net for (name, _), (net, _) in networks.items() if name == "Products, 2")
            many = so3ntk.SphereSignal(np.tile(x, (4, 1, 1)), bandlimit)
            networks["inner products", None] = square, None
            runners["inner products", None] = gram_runner(so3ntk, square, many)
            times = measure(runners, turns)
            first = next(iter(times.values()))
            for key, (_, grid) in networks.items():
                ratio = statistics.median(a / b for a, b in zip(first, times[key], strict=True))
                shape, size = ("", 0) if grid is None else (f"{grid.n} x {grid.n_beta} x {grid.n}", len(grid))
                print(f"{bandlimit:>3}{channels:>10}{key[0]:>16}{shape:>14}{size:>11}"
                      f"{statistics.median(times[key]):>13.2f}{ratio:>11.1f}", flush=True)  # fmt: skip


def bandlimits_table(so3ntk, dtype, turns: int, bandlimits: list[int], picture: str | None) -> None:
    """Microseconds per pair against the bandlimit, by each transform."""
    from so3ntk.sphere.transforms import grid as grids

    net, columns = relu_network(so3ntk, 1), ("dense", "axis by axis", "s2fft")
    costs: dict[str, dict[int, float]] = {name: {} for name in columns}
    print(f"{'L':>3}{'rotations':>11}" + "".join(f"{name:>14}" for name in columns))
    chosen = grids.DENSE
    for bandlimit in bandlimits:
        grid = so3ntk.ProductGrid(4 * -(-bandlimit // 2))
        side = 32
        while side > 2 and side**2 * len(grid) * np.dtype(dtype).itemsize > 2**23:
            side //= 2  # as plans do
        x = white_signals(side, bandlimit, 1, dtype)
        for name, limit in (("dense", 64), ("axis by axis", 0)):
            if name == "dense" and bandlimit > DENSE_UP_TO:
                continue
            grids.DENSE = limit
            motions = grids.Grid.load(grid, bandlimit, dtype, pairs=2**30)
            run, pairs = block_runner(net, motions, x, 34 if np.dtype(dtype).itemsize == 8 else 16, side)
            costs[name][bandlimit] = processor_time(run, turns) / pairs * 1e6
        grids.DENSE = chosen
        if bandlimit <= S2FFT_UP_TO:
            run, count = s2fft_runner(bandlimit)
            costs["s2fft"][bandlimit] = processor_time(run, turns) / count * 1e6
        cells = (f"{costs[name][bandlimit]:.1f}" if bandlimit in costs[name] else "-" for name in columns)
        print(f"{bandlimit:>3}{len(grid):>11}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
    separable = costs["axis by axis"]
    if 16 in separable and 48 in separable:
        print(f"axis by axis, from 16 to 48: L^{np.log(separable[48] / separable[16]) / np.log(3):.2f}")
    if picture is not None:
        draw_costs(costs, picture)


#: Beyond these tables and transforms take gigabytes.
DENSE_UP_TO, S2FFT_UP_TO = 16, 32


def processor_time(run: Callable, turns: int) -> float:
    """Seconds of the fastest turn."""
    run()
    times = []
    for _ in range(turns):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def s2fft_runner(bandlimit: int) -> tuple[Callable, int]:
    """Its precomputed inverse Wigner transform of functions of bandlimit L = N, a batch of four at once."""
    from s2fft.precompute_transforms import construct
    from s2fft.precompute_transforms.wigner import inverse_transform_jax

    table = jax.numpy.asarray(construct.wigner_kernel(bandlimit, bandlimit, False, sampling="mw", forward=False))
    shape = (4, 2 * bandlimit - 1, bandlimit, 2 * bandlimit - 1)
    values = jax.numpy.asarray(np.random.default_rng(0).normal(size=shape) + 0j)
    one = lambda flmn: inverse_transform_jax(flmn, table, bandlimit, bandlimit, "mw", False, 0)  # noqa: E731
    transform = jax.jit(jax.vmap(one))
    return lambda: transform(values).block_until_ready(), len(values)


def draw_costs(costs: dict[str, dict[int, float]], path: str) -> None:
    """A picture of the table."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for name, points in costs.items():
        axes.loglog(list(points), list(points.values()), "o-", label=name)
    ends = np.array([16.0, 48.0])
    if 16 in costs["axis by axis"]:
        axes.loglog(ends, costs["axis by axis"][16] * (ends / 16) ** 4.3, "k:", label="L$^{4.3}$")
    axes.set(xlabel="bandlimit L", ylabel="microseconds per pair, one core")
    axes.set_xticks(list(costs["axis by axis"]), [str(limit) for limit in costs["axis by axis"]])
    axes.minorticks_off()
    axes.set_title("A pair of maps: one ReLU layer on 2L x L x 2L rotations")
    axes.legend()
    plt.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="bandlimit 6 and depth 3 only, without the G x G recursion"
    )
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--only-products", action="store_true")
    parser.add_argument("--bandlimits", type=int, nargs="+", help="the table of large bandlimits alone")
    parser.add_argument("--picture", help="of that table")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--n", type=int, default=16, help="points in alpha and gamma")
    parser.add_argument("--n-beta", type=int, default=7)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", args.float64)
    import so3ntk
    from so3ntk.sphere.haar import ProductGrid
    from so3ntk.sphere.transforms.grid import Grid

    dtype = np.float64 if args.float64 else np.float32
    rotation_grid = ProductGrid(args.n, args.n_beta)
    print(f"{platform.machine()}, {len(jax.devices())} {jax.devices()[0].platform} device(s), Python "
          f"{platform.python_version()}, jax {jax.__version__}, {np.dtype(dtype).name}, {len(rotation_grid)} rotations, "
          f"10 channels; microseconds per pair")  # fmt: skip
    if args.bandlimits:
        bandlimits_table(so3ntk, dtype, args.turns, args.bandlimits, args.picture)
        return
    if args.only_products:
        products_table(so3ntk, dtype, args.turns)
        return
    print(f"{'L':>3}{'depth':>6}{'tower':>9}{'by layers':>11}{'neural-t.':>11}{'G x G':>12}"
          f"{'layers/tower':>14}{'nt/tower':>10}{'GxG/tower':>11}")  # fmt: skip
    towers: dict[tuple[int, int], float] = {}
    for bandlimit in (6,) if args.quick else (3, 4, 6, 8):
        for depth in (3,) if args.quick else (1, 3, 10):
            net = relu_network(so3ntk, depth)
            grid = Grid.load(rotation_grid, bandlimit, dtype, pairs=2**20)  # as for large matrices
            x = white_signals(256, bandlimit, 10, dtype)
            runners = {
                "tower": block_runner(net, grid, x, 34 if args.float64 else 16),
                "layers": block_runner(net, grid, x[:32], 0),
            }
            rotations, weights = rotation_grid.rotations, rotation_grid.weights
            nt = neural_tangents_runner(depth, rotations, weights, x[:16], bandlimit)
            if nt is not None:
                runners["nt"] = nt
            times = measure(runners, args.turns)
            if depth == 3 and not args.quick and bandlimit <= 6:
                times |= measure({"gxg": gxg_runner(depth, x, bandlimit)}, 1)
            middle = {name: statistics.median(values) for name, values in times.items()}
            towers[bandlimit, depth] = middle["tower"]
            ratio = {
                name: statistics.median(b / a for a, b in zip(times["tower"], values, strict=False))
                for name, values in times.items()
            }
            cells = [f"{middle[k]:.1f}" if k in middle else "-" for k in ("layers", "nt", "gxg")]
            ratios = [f"{ratio[k]:.0f}" if k in ratio else "-" for k in ("layers", "nt", "gxg")]
            print(f"{bandlimit:>3}{depth:>6}{middle['tower']:>9.2f}{cells[0]:>11}{cells[1]:>11}{cells[2]:>12}"
                  f"{ratios[0]:>14}{ratios[1]:>10}{ratios[2]:>11}", flush=True)  # fmt: skip
    for bandlimit in sorted({key[0] for key in towers}):
        if (bandlimit, 1) in towers:
            print(f"L = {bandlimit}: depth 10 / depth 1 = {towers[bandlimit, 10] / towers[bandlimit, 1]:.2f}")
    products_table(so3ntk, dtype, args.turns)


if __name__ == "__main__":
    main()
