"""Milliseconds per pair of images: C1, C4 and global networks beside neural-tangents' CNN kernel with average pooling.

    python benchmarks/planar_pairs.py
    python benchmarks/planar_pairs.py --sizes 16 --layers 2 --paddings SAME --dtypes float32

ReLU networks, 3 x 3 filters, one channel, NTK alone: Lift - Relu - (GroupConv - Relu) ... GroupPool - Dense. "global": C4
with filters of global support. "neural-t.": the CNN's kernel; "x 4 turns": its mean over the quarter turns of the second
image, which is the kernel of C4. These appear where it imports (jax 0.5.0 to 0.5.3).

All columns of a line are measured in turns, after one call that compiles; medians over --turns, fewer where a column has
taken --seconds. Batches are large enough that a call's fixed cost does not show. The whole table takes about half an
hour on two cores, most of it in neural-tangents at n = 28 and 32.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

import planar
from so3ntk import Dense, Relu, serial

PADDINGS = ("CIRCULAR", "SAME", "VALID")
COLUMNS = ("C1", "C4", "global", "neural-t.", "x 4 turns")
#: Of two columns: how often the first costs the second.
RATIOS = (("C4", "C1"), ("neural-t.", "C1"), ("x 4 turns", "C4"), ("C4", "global"))


def our_kernel(group: str, padding: str, depth: int, support=(3, 3)) -> Callable:
    layers = [planar.Lift(support, padding, group), Relu()]
    for _ in range(depth - 1):
        layers += [planar.GroupConv(support, padding), Relu()]
    net = serial(*layers, planar.GroupPool(), Dense())
    return lambda x, y: net.kernel_fn(x, y, "ntk")


def neural_tangents_kernel(padding: str, depth: int) -> Callable | None:
    try:
        from neural_tangents import stax  # pyright: ignore[reportMissingImports]
    except Exception:  # on a newer jax its import ends in an AttributeError
        return None
    layers = [layer for _ in range(depth) for layer in (stax.Conv(1, (3, 3), padding=padding), stax.Relu())]
    kernel = jax.jit(stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))[2], static_argnames="get")
    return lambda x, y: kernel(x, y, get="ntk")


def calls(n: int, depth: int, padding: str, dtype: str) -> dict[str, tuple[Callable, int]]:
    """For each column a function to be timed, and the pairs of images that it does."""
    x = np.random.default_rng(0).normal(size=(32, n, n, 1)).astype(dtype)

    def over(kernel: Callable, rows: int, columns: int, turned: bool = False) -> tuple[Callable, int]:
        a, b = x[:rows], x[:columns]
        if turned:
            b = np.concatenate([np.rot90(b, k, (1, 2)) for k in range(4)])
        a, b = jax.numpy.asarray(a), jax.numpy.asarray(b)
        return lambda: jax.block_until_ready(kernel(a, b)), rows * columns

    side = 32 if n <= 8 else 16 if n <= 16 else 8
    found = {group: over(our_kernel(group, padding, depth), side, side) for group in ("C1", "C4")}
    if padding == "CIRCULAR":
        found["global"] = over(our_kernel("C4", padding, depth, None), 32, 32)
    theirs = neural_tangents_kernel(padding, depth)
    if theirs is not None:
        few = 8 if n <= 16 else 2
        found["neural-t."] = over(theirs, few, few)
        found["x 4 turns"] = over(theirs, few // 2, few // 2, turned=True)
    return found


def measure(functions: dict[str, tuple[Callable, int]], turns: int, seconds: float) -> dict[str, float]:
    """Milliseconds per pair."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(turns + 1):
        for name, (function, count) in functions.items():
            if sum(times[name]) * count / 1e3 > seconds:
                continue
            start = time.perf_counter()
            function()
            if turn:  # the first compiles
                times[name].append((time.perf_counter() - start) / count * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def cells(found: dict[str, float]) -> str:
    """Times and ratios of a line; - for what was not measured."""
    values = [f"{found[name]:.3f}" if name in found else "-" for name in COLUMNS]
    ratios = [f"{found[a] / found[b]:.1f}" if a in found and b in found else "-" for a, b in RATIOS]
    return "".join(f"{cell:>11}" for cell in values) + "".join(f"{cell:>15}" for cell in ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "float64"), default=["float32", "float64"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 28, 32])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 6])
    parser.add_argument("--paddings", nargs="+", choices=PADDINGS, default=PADDINGS)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="after which a column is not repeated (20)")
    args = parser.parse_args()
    for dtype in args.dtypes:
        jax.config.update("jax_enable_x64", dtype == "float64")
        print(f"{platform.machine()}, {len(jax.devices())} {jax.devices()[0].platform} device(s), Python "
              f"{platform.python_version()}, jax {jax.__version__}, {dtype}; milliseconds per pair")  # fmt: skip
        print(f"{'n':>3}{'layers':>8}{'padding':>10}" + "".join(f"{name:>11}" for name in COLUMNS)
              + "".join(f"{f'{a}/{b}':>15}" for a, b in RATIOS), flush=True)  # fmt: skip
        for n in args.sizes:
            for depth in args.layers:
                for padding in args.paddings:
                    if padding == "VALID" and n <= 2 * depth:
                        continue
                    found = measure(calls(n, depth, padding, dtype), args.turns, args.seconds)
                    print(f"{n:>3}{depth:>8}{padding:>10}" + cells(found), flush=True)


if __name__ == "__main__":
    main()
