"""Milliseconds per pair of images: C1 and C4 networks, and neural-tangents' CNN kernel with global average pooling.

    python benchmarks/planar_pairs.py [--float64] [--sizes 8 16 28 32] [--layers 2 6] [--turns 3]

All columns are measured in one run, in turns; medians over the turns. ReLU networks, 3 x 3 filters, one channel, NTK
alone: Lift - Relu - (GroupConv - Relu) ... GroupPool - Dense. "global": C4 with filters of global support. The column
of neural-tangents appears where it imports (jax 0.5.0 to 0.5.3); its mean over four rotations costs four times that.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import jax
import numpy as np


def our_runner(x, group, padding, depth, support=(3, 3)):
    import planar
    from so3ntk import Dense, Relu, serial

    layers = [planar.Lift(support, padding, group), Relu()]
    for _ in range(depth - 1):
        layers += [planar.GroupConv(support, padding), Relu()]
    net = serial(*layers, planar.GroupPool(), Dense())
    return lambda: jax.block_until_ready(net.kernel_fn(x, x, "ntk"))


def neural_tangents_runner(x, padding, depth):
    try:
        from neural_tangents import stax
    except ImportError:
        return None
    layers = [layer for _ in range(depth) for layer in (stax.Conv(1, (3, 3), padding=padding), stax.Relu())]
    kernel = jax.jit(stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))[2], static_argnames="get")
    return lambda: jax.block_until_ready(kernel(x, x, get="ntk"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 28, 32])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 6])
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", args.float64)
    dtype = np.float64 if args.float64 else np.float32
    print(f"{platform.machine()}, {len(jax.devices())} {jax.devices()[0].platform} device(s), Python "
          f"{platform.python_version()}, jax {jax.__version__}, {np.dtype(dtype).name}; milliseconds per pair")  # fmt: skip
    print(f"{'n':>3}{'layers':>8}{'padding':>10}{'C1':>10}{'C4':>10}{'global':>10}{'neural-t.':>11}"
          f"{'C4/C1':>8}{'nt/C1':>8}{'C4/global':>11}")  # fmt: skip
    for n in args.sizes:
        for depth in args.layers:
            for padding in ("CIRCULAR", "SAME", "VALID"):
                if padding == "VALID" and n <= 2 * depth:
                    continue
                x = jax.numpy.asarray(np.random.default_rng(0).normal(size=(8, n, n, 1)), dtype)
                few = x[:4] if n > 16 else x
                calls = {
                    "C1": (our_runner(x, "C1", padding, depth), len(x)),
                    "C4": (our_runner(x, "C4", padding, depth), len(x)),
                    "nt": (neural_tangents_runner(few, padding, depth), len(few)),
                }
                if padding == "CIRCULAR":
                    calls["global"] = (our_runner(x, "C4", padding, depth, None), len(x))
                times = {name: [] for name, (call, _) in calls.items() if call is not None}
                for turn in range(args.turns + 1):  # the first compiles
                    for name in times:
                        call, count = calls[name]
                        start = time.perf_counter()
                        call()
                        if turn:
                            times[name].append((time.perf_counter() - start) / count**2 * 1e3)
                middle = {name: statistics.median(values) for name, values in times.items()}
                cell = lambda name: f"{middle[name]:.3f}" if name in middle else "-"  # noqa: B023, E731
                ratio = lambda a, b: f"{middle[a] / middle[b]:.1f}" if a in middle and b in middle else "-"  # noqa: B023, E731
                print(f"{n:>3}{depth:>8}{padding:>10}{cell('C1'):>10}{cell('C4'):>10}{cell('global'):>10}{cell('nt'):>11}"
                      f"{ratio('C4', 'C1'):>8}{ratio('nt', 'C1'):>8}{ratio('C4', 'global'):>11}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
