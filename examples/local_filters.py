"""Local filters on the sphere: what the angle of the filters' cap does to a learning curve.

    python examples/local_filters.py
    python examples/local_filters.py --bandlimit 4 --sizes 40 80 160 --test 80 --angles 0.4 0.8 1.6 --rotations 20 --rings 16

Random functions f on the sphere have two targets, which rotations do not change. The near one is the mean over x of
f(x)^3: a sum of what each place says by itself. The far one is the mean of f(x)^2 f(-x), which compares opposite places.
The kernels are those of networks with two convolutions, ReLU and pooling over all rotations, with filters on caps of
several half-angles and on the whole sphere (pi). With the defaults, from 8 functions caps of 1 and 1.6 learn the near
target better than filters on the whole sphere (errors 0.11 and 0.14), and the far one no better. The smaller the caps,
the worse the far target against the near one (0.42 and 0.16 for caps of 0.5): places out of reach of two layers meet only
in the mean at the end.

Each kernel is computed once for all functions. A learning curve is the mean over random divisions of them into training
and test functions, which overlap; its band is the range of half of the divisions. Errors are root mean squares, as shares of
the target's standard deviation: 1 is what its mean gives.

Coarse grids add noise to kernels, which a regression takes for data: learning curves then end in a plateau, the higher
the smaller the caps. --rotations and --rings say how fine they are (``ProductGrid``, ``SphereGrid``).

The defaults take 13 minutes on one core; time grows as the square of the functions and of the rings, and as the
cube of the rotations. Prints tables, writes local_filters.png and local_filters.json.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import so3ntk
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import (
    format_table,
    not_negative,
    output_folder,
    positive,
    read_options,
    replace_file,
    run_example,
    settings,
    write_json,
)

TITLES = {"near": "near: mean of f(x)³", "far": "far: mean of f(x)² f(−x)"}


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--angles", type=float, nargs="+", default=[0.5, 1.0, 1.6], help="half-angles of caps, radians (0.5 1 1.6)")
    add("--sizes", "--train", type=positive, nargs="+", default=[8, 16, 32, 64], help="training functions (8 16 32 64)")
    add("--test", type=positive, default=32, help="test functions (32)")
    add("--divisions", type=positive, default=20, help="into training and test functions, to average over (20)")
    add("--bandlimit", type=positive, default=3, help="of the functions (3)")
    add("--rotations", type=positive, default=16, help="points in alpha and gamma, a multiple of four (16)")
    add("--rings", type=positive, default=10, help="of positions on the sphere, an even number (10)")
    add("--seed", type=not_negative, default=0, help="of functions and divisions (0)")
    add("--out", default="so3ntk-results/local-filters", help="folder of the results")
    return read_options(parser, {"angles": [1.0], "sizes": [4, 8, 16], "test": 8, "rotations": 8, "rings": 6})


def random_functions(n: int, bandlimit: int, seed: int) -> so3ntk.SphereSignal:
    """Functions of mean 0 and mean square 1, all degrees below the bandlimit with equal weights in the mean."""
    values = np.random.default_rng(seed).normal(size=(n, bandlimit**2, 1))
    values[:, 0] = 0
    values *= np.sqrt(4 * np.pi / (values**2).sum(axis=1, keepdims=True))
    return so3ntk.SphereSignal(np.asarray(values, np.float32), bandlimit)


def targets(x: so3ntk.SphereSignal) -> dict[str, np.ndarray]:
    """Both, in units of their standard deviations; the grid integrates products of three functions exactly."""
    grid = so3ntk.SphereGrid(2 * x.bandlimit)
    here, opposite = (np.asarray(x.at(s * grid.directions), np.float64)[..., 0] for s in (1, -1))
    found = {"near": here**3 @ grid.weights, "far": (here**2 * opposite) @ grid.weights}
    return {name: y / y.std() for name, y in found.items()}


def network(support: float | None, grid: so3ntk.LocalGrid) -> so3ntk.Network:
    """Two convolutions with filters on caps, ReLU after each, the mean over all rotations, a linear readout."""
    return so3ntk.serial(
        so3ntk.Lift(support=support, b_std=0.5), so3ntk.Relu(),
        so3ntk.GroupConv(support=support, b_std=0.5), so3ntk.Relu(),
        so3ntk.GroupPool(), so3ntk.Dense(), quadrature=grid, rtol=1e-3,
    )  # fmt: skip


def learning_curve(kernel: np.ndarray, y: np.ndarray, sizes: list[int], args: argparse.Namespace) -> np.ndarray:
    """Errors (sizes, divisions); smaller training sets are parts of the larger."""
    rng = np.random.default_rng(args.seed)
    curves = []
    for _ in range(args.divisions):
        order = rng.permutation(len(y))
        test, train = order[: args.test], order[args.test :]
        errors = []
        for rows in (train[:size] for size in sizes):
            model = so3ntk.KernelRegressor("precomputed").fit(kernel[np.ix_(rows, rows)], y[rows])
            wrong = model.predict(kernel[np.ix_(test, rows)]) - y[test]
            errors.append(np.sqrt(np.mean(wrong**2)))
        curves.append(errors)
    return np.transpose(curves)


def draw_picture(curves: dict[str, dict[str, np.ndarray]], sizes: list[int], path: str) -> None:
    """A panel for each target."""
    plt = require_matplotlib("local_filters.py")
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True, constrained_layout=True)
    for axes, (target, title) in zip(panels, TITLES.items(), strict=True):
        for (name, values), marker in zip(curves[target].items(), "osD^vP*X" * len(curves[target]), strict=False):
            low, high = np.quantile(values, [0.25, 0.75], axis=1)
            (line,) = axes.plot(sizes, values.mean(axis=1), marker=marker, label=name)
            axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, lw=0)
        axes.axhline(1, color="gray", lw=0.8, ls=":")
        axes.set(xscale="log", yscale="log", xlabel="training functions", title=title)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0) if tick > 0.8 * axes.get_ylim()[0]]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(True, alpha=0.3)
    panels[0].set_ylabel("test error / standard deviation of the target")
    panels[0].legend(frameon=False, title="filters on", loc="lower left")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(args: argparse.Namespace) -> None:
    """Make functions, compute a kernel for each angle, learn both targets, write."""
    require_matplotlib("local_filters.py")  # now, not after minutes of work
    if args.bandlimit < 2 or min(args.sizes) < 2 or args.test < 2:
        raise ValueError("expected --bandlimit >= 2, for functions that vary, --sizes and --test >= 2.")
    started = time.perf_counter()
    out = output_folder(args.out)
    grid = so3ntk.LocalGrid(so3ntk.ProductGrid(args.rotations), so3ntk.SphereGrid(args.rings))
    nets = {f"caps of {angle:g} ({math.degrees(angle):.0f}°)": network(angle, grid) for angle in args.angles}
    nets["the whole sphere (π)"] = network(None, grid)
    x = random_functions(max(args.sizes) + args.test, args.bandlimit, args.seed)
    y = targets(x)
    sizes = sorted(args.sizes)
    curves: dict[str, dict[str, np.ndarray]] = {target: {} for target in y}
    seconds = {}
    for name, net in nets.items():
        begun = time.perf_counter()
        kernel = np.asarray(so3ntk.gram(net, x, progress=False), np.float64)
        seconds[name] = time.perf_counter() - begun
        for target, values in y.items():
            curves[target][name] = learning_curve(kernel, values, sizes, args)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    for target, found in curves.items():
        rows = [(name, size, v.mean()) for name, each in found.items() for size, v in zip(sizes, each, strict=True)]
        print(f"\n{format_table(f'error, {target}', rows, 3)}")
    picture = replace_file(out / "local_filters.png", lambda path: draw_picture(curves, sizes, path))
    errors = {target: {name: each.tolist() for name, each in found.items()} for target, found in curves.items()}
    file = write_json(out / "local_filters.json", {"settings": settings(args), "sizes": sizes, "errors": errors,
                      "seconds": seconds})  # fmt: skip
    print(
        f"\n{picture}\n{file}\n{time.perf_counter() - started:.0f} s in all, {time.process_time():.0f} s of processors"
    )


if __name__ == "__main__":
    run_example(run, read_arguments)
