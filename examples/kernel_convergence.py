"""Finite networks converge to the kernels: empirical NNGP and NTK against the analytic ones as the width grows.

    python examples/kernel_convergence.py [--widths 8 16 32 64 128] [--draws 48] [--sizes 3] [--out FOLDER]

For a network on SO(3) and one on images with the group C4, random parameters are drawn many times at each width. Two
errors, relative to the analytic kernel in the Frobenius norm:

* of one network, the root mean square over the draws: the scatter of random networks, which falls as width^(-1/2);
* of the mean over the draws: what is left is the bias, O(1 / width), until the Monte-Carlo error of the mean hides it.

--draws is for the largest width; a network half as wide is drawn twice as often, which costs less and makes the
Monte-Carlo error of the mean the same at all widths. The defaults take two to four minutes on two cores. Prints a table with the fitted rates, writes convergence.png (bands: two standard errors) and convergence.json. The
NNGP is averaged over the channels of the last hidden layer.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import planar
import so3ntk
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import output_folder, positive, read_options, replace_file, settings, write_json

KERNELS = ("nngp", "ntk")


class Point(NamedTuple):
    """Errors of one kernel at one width: of a network, of the mean, and what Monte Carlo leaves of the latter."""

    group: str
    kernel: str
    width: int
    draws: int
    one: float
    mean: float
    monte_carlo: float


def sphere_network(width: int | None) -> so3ntk.Network:
    """Two hidden layers on SO(3); the filters' bandlimit makes finite and infinite network one architecture."""
    hidden = so3ntk.GroupConv(width=width, bandlimit=3, W_std=1.4)
    return so3ntk.serial(
        so3ntk.Lift(width=width, W_std=1.4, b_std=0.1), so3ntk.Relu(), hidden, so3ntk.Relu(), so3ntk.GroupPool(),
        so3ntk.Dense(1), quadrature=so3ntk.ProductGrid(8),
    )  # fmt: skip


def image_network(width: int | None) -> so3ntk.Network:
    """Two hidden layers on C4 and the translations of a torus."""
    return so3ntk.serial(
        planar.Lift((3, 3), width=width, W_std=1.4, b_std=0.1), so3ntk.Relu(),
        planar.GroupConv((3, 3), width=width, W_std=1.4), so3ntk.Relu(), planar.GroupPool(), so3ntk.Dense(1),
    )  # fmt: skip


def measure(group: str, make: Any, x: Any, widths: list[int], draws: int, seed: int) -> list[Point]:
    """Both errors of both kernels at each width."""
    exact = make(None).kernel_fn(x)
    points = []
    for width in widths:
        found = so3ntk.empirical.monte_carlo(
            make(width), x, draws=draws * max(widths) // width, key=seed, progress=False
        )
        for kernel in KERNELS:
            truth = np.asarray(getattr(exact, kernel), np.float64)
            bias = getattr(found.mean, kernel) - truth
            scatter = getattr(found.error, kernel)
            norm = float(np.linalg.norm(truth))
            one = np.sqrt(np.sum(bias**2) + found.draws * np.sum(scatter**2)) / norm
            mean, error = (float(np.linalg.norm(values)) / norm for values in (bias, scatter))
            points.append(Point(group, kernel, width, found.draws, one, mean, error))
        print(f"{group}, width {width}: " + ", ".join(f"{p.kernel} {p.one:.3f}" for p in points[-2:]), flush=True)
    return points


def rate(points: list[Point]) -> float:
    """The exponent of width^-rate, fitted to the errors of one network, each known to 1 / sqrt(2 draws)."""
    weights = np.sqrt([2 * p.draws for p in points])
    return -float(np.polyfit(np.log([p.width for p in points]), np.log([p.one for p in points]), 1, w=weights)[0])


def table(points: list[Point]) -> str:
    """Errors and rates, one line for each group and kernel, in per cent."""
    widths = sorted({p.width for p in points})
    lines = [f"{'relative error [%]':<34}" + "".join(f"{w:>8}" for w in widths) + f"{'rate':>8}"]
    for group, kernel in dict.fromkeys((p.group, p.kernel) for p in points):
        curve = [p for p in points if (p.group, p.kernel) == (group, kernel)]
        for label, name in (("one network", "one"), ("mean of draws", "mean"), ("Monte-Carlo error", "monte_carlo")):
            cells = "".join(f"{100 * getattr(p, name):>8.2f}" for p in curve)
            slope = f"{rate(curve):>8.2f}" if name == "one" else ""
            lines.append(f"{f'{group} {kernel.upper()}, {label}':<34}{cells}{slope}")
    return "\n".join(lines)


def draw(points: list[Point], path: str) -> None:
    """One panel for each group: errors against the width on logarithmic axes."""
    plt = require_matplotlib("kernel_convergence")
    groups = list(dict.fromkeys(p.group for p in points))
    figure, panels = plt.subplots(1, len(groups), figsize=(5 * len(groups), 4.2), sharey=True, constrained_layout=True)
    for axes, group in zip(np.atleast_1d(panels), groups, strict=True):
        for kernel, colour in zip(KERNELS, ("C0", "C1"), strict=True):
            curve = [p for p in points if (p.group, p.kernel) == (group, kernel)]
            width, draws, one, mean, error = (np.array([getattr(p, n) for p in curve]) for n in Point._fields[2:])
            axes.plot(width, one, "o-", color=colour, label=f"{kernel.upper()}, one network: width^-{rate(curve):.2f}")
            spread = 2 * one / np.sqrt(2 * draws)  # of a root mean square over so many draws
            axes.fill_between(width, one - spread, one + spread, color=colour, alpha=0.2)
            axes.plot(width, mean, "s--", color=colour, label=f"{kernel.upper()}, mean of draws")
            axes.plot(width, error, ":", color=colour, label=f"{kernel.upper()}, Monte-Carlo error of that")
        start = max(p.one for p in points if p.group == group)
        axes.plot(width, 1.3 * start * (width / width[0]) ** -0.5, "k-", lw=0.8, label="width^-1/2")
        axes.set(xscale="log", yscale="log", xlabel="width", title=group)
        axes.set_xticks(width, [str(w) for w in width])
        axes.minorticks_off()
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=7, loc="lower left", ncols=2)
    first = np.atleast_1d(panels)[0]
    first.set(ylabel="relative error of the kernel", ylim=(first.get_ylim()[0] / 6, None))  # room for the legends
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=positive, nargs="+", default=[8, 16, 32, 64, 128], help="channels")
    parser.add_argument("--draws", type=positive, default=48, help="networks of the largest width (48)")
    parser.add_argument("--sizes", "--signals", type=positive, default=3, metavar="N", help="inputs, one number (3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="so3ntk-results/convergence", help="folder of the results")
    args = read_options(parser, {"widths": [8, 16], "draws": 4, "sizes": 2})
    out, started = output_folder(args.out), time.perf_counter()
    rng = np.random.default_rng(args.seed)
    widths = sorted(set(args.widths))
    coefficients = rng.normal(size=(args.sizes, 9, 2)) * np.sqrt(4 * np.pi / 9)
    sphere = so3ntk.SphereSignal(jax.numpy.asarray(coefficients, jax.numpy.float32), 3)
    images = jax.numpy.asarray(rng.normal(size=(args.sizes, 5, 5, 1)), jax.numpy.float32)
    points = measure("SO(3)", sphere_network, sphere, widths, args.draws, args.seed)
    points += measure("C4", image_network, images, widths, args.draws, args.seed)
    print(table(points))
    picture = replace_file(out / "convergence.png", lambda path: draw(points, path))
    seconds = time.perf_counter() - started
    results = {"settings": settings(args), "seconds": seconds, "points": [p._asdict() for p in points]}
    print(picture, write_json(out / "convergence.json", results), f"{seconds:.0f} s in all", sep="\n")


if __name__ == "__main__":
    main()
