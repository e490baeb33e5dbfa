"""Milliseconds per pair of kernels with filters on caps, beside the global path and integration over the caps.

    python benchmarks/local_pairs.py [--quick] [--float64] [--turns 3]

ReLU networks, Lift(support) - Relu - (GroupConv(support) - Relu) ... GroupPool - Dense, NTK alone, signals of ten channels.
"cap": a batch of --batch signals, all pairs of it, at the angles 0.4, 0.8 and 1.5. Their cost does not depend on the angle
but through the number of positions, which is given here; three angles show the noise. "one pair": a batch of one signal
with another, which is filled up to a tile. "global": the same network with filters on the whole sphere, at the same
rotations, layer by layer and as a tower. "oracle": tests/oracles/local.py (NumPy, the G x G recursion with integrals over
caps), timed at a few pairs (g, g') and scaled to the same rotations and positions; its rule of 4 x 6 points for each cap is
the coarsest that is exact for linear layers at L = 3. All columns of a row take turns in one run; medians over turns.

Operations of one pair at one rotation, of n positions: a cap average is 8 products with matrices of n / 8 (n^2 / 4 in all)
and two Walsh-Hadamard transforms (48 n); the lifting layer has one, each convolution two (NNGP and NTK); a ReLU about 90 n
(a square root, an arctangent's polynomial and divisions). "Gflop/s" is that count over the time at angle 0.8.
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
ANGLES = (0.4, 0.8, 1.5)


def relu_network(depth: int, support: float | None):
    from so3ntk import Dense, GroupConv, GroupPool, Lift, Relu, serial

    hidden = [layer for _ in range(depth - 1) for layer in (Relu(), GroupConv(support=support))]
    return serial(Lift(support=support), *hidden, Relu(), GroupPool(), Dense())


def white_signals(n: int, bandlimit: int, dtype):
    values = np.random.default_rng(0).normal(size=(n, bandlimit**2, 10)) * np.sqrt(4 * np.pi / bandlimit**2)
    return jax.numpy.asarray(values, dtype)


def runner(net, base, x, y, side: int, nodes: int = 0) -> tuple[Callable, int]:
    """A call that computes the NTK of all pairs of x and y, and their number."""
    from so3ntk.engine.evaluation.by_motion import BatchByMotion
    from so3ntk.engine.evaluation.collapsed import Collapsed
    from so3ntk.engine.evaluation.evaluation import Whole
    from so3ntk.engine.evaluation.programs import batch_kernels
    from so3ntk.engine.evaluation.tower import Nodes
    from so3ntk.sphere.local_support import Turn

    if nodes:
        evaluation = Collapsed(net.layers, base, Nodes(nodes))
    else:
        evaluation = (BatchByMotion if isinstance(base, Turn) else Whole)(net.layers, base)
    run = lambda: jax.block_until_ready(batch_kernels(evaluation, x, y, ("ntk",), (side, side)))  # noqa: E731
    return run, len(x) * len(y)


def oracle_runner(depth: int, x, points: int) -> tuple[Callable, float]:
    """A call at few points (g, g') of one pair, and the pairs that this is, of ``points`` in all."""
    from scipy.spatial.transform import Rotation

    from tests.oracles import local

    layers = [("lift", 0.8, 1.0, 0.0)]
    for _ in range(depth - 1):
        layers += ["relu", ("conv", 0.8, 1.0, 0.0)]
    few = {1: 256, 2: 16, 3: 1}[depth]
    g, moved = Rotation.random(2 * few, np.random.default_rng(0)).as_matrix().reshape(2, few, 3, 3)
    f, h = (np.asarray(signal, np.float64) for signal in x[:2])
    return lambda: local.kernels(f, h, g, moved, [*layers, "relu"], local.Rule(4, 6)), few / points


def measure(runners: dict[str, tuple[Callable, float]], turns: int) -> dict[str, float]:
    """Median milliseconds per pair, all runners taking their turn after the other."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(turns + 1):  # the first compiles
        for name, (run, pairs) in runners.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append((time.perf_counter() - start) / pairs * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def operations(depth: int, rotations: int, positions: int) -> float:
    """Of one pair, as the head of this file counts."""
    averages = 1 + 2 * (depth - 1)
    return rotations * (averages * (positions**2 / 4 + 48 * positions) + 90 * positions * depth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="bandlimit 6 and depth 3 only, without the oracle")
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="signals (16)")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", args.float64)
    from so3ntk import ProductGrid, SphereGrid
    from so3ntk.sphere.local_support import Turn
    from so3ntk.sphere.transforms.grid import Grid

    dtype = np.float64 if args.float64 else np.float32
    rotations = ProductGrid(16, 7)
    side = min(args.batch, 16)
    print(f"{platform.machine()}, {len(jax.devices())} {jax.devices()[0].platform} device(s), Python "
          f"{platform.python_version()}, jax {jax.__version__}, {np.dtype(dtype).name}, {len(rotations)} rotations, "
          f"{args.batch} signals in tiles of {side}; milliseconds per pair")  # fmt: skip
    print(f"{'L':>3}{'depth':>6}{'positions':>10}" + "".join(f"{f'cap {a:g}':>9}" for a in ANGLES)
          + f"{'one pair':>10}{'global':>9}{'tower':>9}{'oracle':>12}{'cap/global':>11}{'Gflop/s':>9}")  # fmt: skip
    for bandlimit in (6,) if args.quick else (4, 6):
        positions = SphereGrid(2 * bandlimit)
        turns, grid = Turn.load(rotations, positions, bandlimit, dtype), Grid.load(rotations, bandlimit, dtype)
        x = white_signals(args.batch, bandlimit, dtype)
        for depth in (3,) if args.quick else (1, 2, 3):
            runners = {f"cap {a:g}": runner(relu_network(depth, a), turns, x, x, side) for a in ANGLES}
            runners["one pair"] = runner(relu_network(depth, 0.8), turns, x[:1], x[1:2], 1)
            runners["global"] = runner(relu_network(depth, None), grid, x, x, 8)
            runners["tower"] = runner(relu_network(depth, None), grid, x, x, side, 34 if args.float64 else 16)
            found = measure(runners, args.turns)
            if not args.quick:
                found |= measure({"oracle": oracle_runner(depth, x, len(rotations) * len(positions))}, 1)
            rate = operations(depth, len(rotations), len(positions)) / found["cap 0.8"] / 1e6
            oracle = f"{found['oracle']:.0f}" if "oracle" in found else "-"
            print(f"{bandlimit:>3}{depth:>6}{len(positions):>10}" + "".join(f"{found[f'cap {a:g}']:>9.2f}" for a in ANGLES)
                  + f"{found['one pair']:>10.1f}{found['global']:>9.4f}{found['tower']:>9.4f}{oracle:>12}"
                  f"{found['cap 0.8'] / found['global']:>11.0f}{rate:>9.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
