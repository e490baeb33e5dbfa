"""Data augmentation and equivariance: the same ensembles, at every training time, on and off the data.

    python examples/augmentation_vs_equivariance.py
    python examples/augmentation_vs_equivariance.py --data mnist.npz --width 64 --members 128

Two ensembles of finite networks are trained by full-batch gradient descent: ordinary CNNs on all quarter turns of the
training images, and C4 networks on the images themselves. At infinite width the mean outputs of both are equal at every
time t and every input (``so3ntk.learning.augmentation``); that is computed from the kernels first. The means of finite ensembles
differ: by chance, as 1 / sqrt(members), and by what the width leaves, O(1 / width), which no ensemble removes.

Inputs: the training images, test images, and three sets off the data: other digits at twice the brightness, noise, and
test images turned by 45 degrees. A difference is the L2 norm over the logits, its root mean square over the inputs of a
set, and over disjoint ensembles where there are several of a size.

--data is an npz file, MNIST's folder of idx files or a folder of images; default: scikit-learn's digits. The defaults
take about three minutes on two cores. --checkpoints keeps the training, to be continued if it is interrupted. Prints
tables, writes augmentation.png and augmentation.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.ndimage

import planar
import so3ntk
from planar.datasets import ImageData, load_images, stratified_split
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import (
    not_negative,
    output_folder,
    positive,
    read_options,
    replace_file,
    run_example,
    settings,
    write_json,
)

FINITE = ("CNN, augmented", "C4")
#: Times of the table and the picture, as shares of all.
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="PATH", help="npz file, MNIST's folder of idx files, or folder of images; default: digits")
    add("--pixels", type=positive, default=7, help="along a side (7)")
    add("--sizes", "--train", type=positive, default=20, metavar="N", help="training images, one number (20)")
    add("--test", type=positive, default=20, help="test images, and images of each other set (20)")
    add("--depth", type=positive, default=2, help="convolutions (2)")
    add("--width", type=positive, default=32, help="channels of the finite networks (32)")
    add("--members", type=positive, default=32, help="networks of the largest ensemble, of each kind (32)")
    add("--steps", type=positive, default=100, help="of gradient descent (100)")
    add("--rate", type=float, default=0.5, help="learning rate, as a share of the largest stable one (0.5)")
    add("--seed", type=not_negative, default=0, help="of the draw of images and of the networks (0)")
    add("--checkpoints", action="store_true", help="keep the trained ensembles in the folder of the results")
    add("--out", default="so3ntk-results/augmentation", help="folder of the results")
    return read_options(parser, {"sizes": 10, "test": 10, "depth": 1, "width": 8, "members": 4, "steps": 30})


def network(group: str, depth: int, width: int | None = None, outputs: int | None = None) -> so3ntk.Network:
    """Convolutions of 3 x 3 pixels on a torus with Erf, mean over the group, a linear readout.

    With ReLU pooled features of images are nearly parallel, and descent needs thousands of steps.
    """
    layers: list[Any] = [planar.Lift((3, 3), group=group, width=width, W_std=2.0), so3ntk.Erf()]
    for _ in range(depth - 1):
        layers += [planar.GroupConv((3, 3), width=width, W_std=2.0), so3ntk.Erf()]
    return so3ntk.serial(*layers, planar.GroupPool(), so3ntk.Dense(outputs))


def input_sets(data: ImageData, args: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Targets of the training images, one-hot less their mean; and all sets of inputs, the training images first.

    Pixels are shifted and scaled to mean 0 and variance 1 over the training images.
    """
    train, rest = stratified_split(data, args.sizes, 2 * args.test, args.seed)
    test, other = stratified_split(rest, args.test, args.test, args.seed)
    noise = np.random.default_rng(args.seed).uniform(size=test.images.shape)
    turned = scipy.ndimage.rotate(test.images, 45, axes=(1, 2), reshape=False, order=1)
    sets = {"training": train.images, "test": test.images, "other digits x 2": 2 * other.images, "noise": noise,
            "turned by 45 degrees": turned}  # fmt: skip
    targets = np.eye(len(data.classes))[train.labels]
    mean, deviation = train.images.mean(), train.images.std()
    scaled = {name: ((images - mean) / deviation).astype(np.float32) for name, images in sets.items()}
    return targets - targets.mean(axis=0), scaled


def infinite_width(
    sets: dict[str, np.ndarray], y: np.ndarray, depth: int, share: float, steps: int
) -> tuple[float, np.ndarray, dict[str, np.ndarray]]:
    """The learning rate, the times, and the mean outputs (times, inputs, classes) of three infinite ensembles."""
    x, inputs = sets["training"].astype(np.float64), np.concatenate(list(sets.values())).astype(np.float64)
    cnn, c4 = network("C1", depth), network("C4", depth)
    moved, moved_y = so3ntk.augment_dataset(x, y, planar.motions("C4"))
    kernels = {
        "CNN, augmented": (cnn.kernel_fn(moved, None, "ntk"), moved_y, cnn.kernel_fn(inputs, moved, "ntk")),
        "C4": (c4.kernel_fn(x, None, "ntk"), y, c4.kernel_fn(inputs, x, "ntk")),
    }
    n = len(x)  # with the identity first, these are the upright ones
    full, _, cross = kernels["CNN, augmented"]
    kernels["CNN, not augmented"] = (full[:n, :n], y, cross[:, :n])
    rate = share * min(so3ntk.predict.max_learning_rate(kernel, y.shape[1]) for kernel, _, _ in kernels.values())
    times = rate * np.unique(np.rint(np.array(SHARES) * steps))
    return rate, times, {name: so3ntk.predict.gradient_flow(a, b, c, times) for name, (a, b, c) in kernels.items()}


def train_ensembles(
    sets: dict[str, np.ndarray], y: np.ndarray, times: np.ndarray, rate: float, args: argparse.Namespace, out: Path
) -> dict[str, np.ndarray]:
    """The outputs (times, members, inputs, classes) of both finite ensembles."""
    from so3ntk.finite.training import train

    moved, moved_y = so3ntk.augment_dataset(sets["training"], y, planar.motions("C4"))
    lessons = {"CNN, augmented": ("C1", moved, moved_y, 0), "C4": ("C4", sets["training"], y, 1)}
    found = {}
    for name, (group, x, targets, seed) in lessons.items():
        print(f"{args.members} networks: {name}", flush=True)
        trained = train(
            network(group, args.depth, args.width, y.shape[1]), x, targets, learning_rate=rate, steps=args.steps,
            members=args.members, key=jax.random.fold_in(jax.random.key(args.seed), seed),
            watch=np.concatenate(list(sets.values())), times=times,
            checkpoint=out / f"{group}.npz" if args.checkpoints else None,
        )  # fmt: skip
        found[name] = trained.recorded.astype(np.float64)
    return found


def ensemble_sizes(members: int) -> list[int]:
    """Powers of two from 2, and the largest ensemble."""
    return sorted({2**i for i in range(1, members.bit_length()) if 2**i <= members} | {members})


def squared_differences(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """|mean of a - mean of b|^2 over the logits (times, inputs), for all disjoint ensembles of a size, averaged."""
    groups = a.shape[1] // size
    means = [v[:, : groups * size].reshape(len(v), groups, size, *v.shape[2:]).mean(axis=2) for v in (a, b)]
    return ((means[0] - means[1]) ** 2).sum(axis=-1).mean(axis=1)


def compare(found: dict[str, np.ndarray], sets: dict[str, np.ndarray], theory: dict[str, np.ndarray]) -> dict[str, Any]:
    """For each set of inputs the differences over time: of infinite ensembles, and of finite ones of each size.

    by_chance: what independent members give, from their scatter. by_width: what is left of the largest ensemble's
    difference without it.
    """
    cnn, c4 = (found[name] for name in FINITE)
    members = cnn.shape[1]
    squares = {size: squared_differences(cnn, c4, size) for size in ensemble_sizes(members)}
    scatter = sum(v.var(axis=1, ddof=1).sum(axis=-1) for v in (cnn, c4))
    infinite = {name: ((theory[name] - theory["C4"]) ** 2).sum(axis=-1) for name in theory if name != "C4"}
    results, start = {}, 0
    for name, images in sets.items():
        own = slice(start, start + len(images))
        start += len(images)

        def root(values, own=own):
            return np.sqrt(np.maximum(values[:, own].mean(axis=1), 0)).tolist()

        results[name] = {
            "infinite": root(infinite["CNN, augmented"]),
            "infinite, not augmented": root(infinite["CNN, not augmented"]),
            "finite": {size: root(values) for size, values in squares.items()},
            "by_chance": {size: root(scatter / size) for size in squares},
            "by_width": root(squares[members] - scatter / members),
        }
    return results


def print_tables(results: dict[str, Any], times: np.ndarray) -> None:
    """Over time at the largest size, and over size at the end."""
    largest = max(next(iter(results.values()))["finite"])
    print(f"\ndifference of mean logits at time t, {largest} networks each (infinite width below)")
    print(f"{'t':<24}" + "".join(f"{t:>10.3g}" for t in times))
    for name, values in results.items():
        print(f"{name:<24}" + "".join(f"{v:>10.4f}" for v in values["finite"][largest]))
        print(f"{'  infinite width':<24}" + "".join(f"{v:>10.1e}" for v in values["infinite"]))
        print(f"{'  without augmentation':<24}" + "".join(f"{v:>10.4f}" for v in values["infinite, not augmented"]))
    sizes = list(next(iter(results.values()))["finite"])
    print("\nat the end, by size of the ensembles")
    print(f"{'networks':<24}" + "".join(f"{size:>10}" for size in sizes) + "   by width")
    for name, values in results.items():
        print(f"{name:<24}" + "".join(f"{values['finite'][size][-1]:>10.4f}" for size in sizes)
              + f"{values['by_width'][-1]:>11.4f}")  # fmt: skip
        print(f"{'  by chance':<24}" + "".join(f"{values['by_chance'][size][-1]:>10.4f}" for size in sizes))


def draw_picture(results: dict[str, Any], times: np.ndarray, title: str, path: str) -> None:
    """Over time at infinite width and at the largest size; over time for each size on test images; over size."""
    plt = require_matplotlib("augmentation_vs_equivariance.py")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.6), constrained_layout=True)
    later = times > 0  # on a logarithmic axis, and at t = 0 infinite ensembles are both zero
    sizes = list(results["test"]["finite"])
    for (name, values), marker in zip(results.items(), "osD^v", strict=True):
        (line,) = left.plot(times[later], np.array(values["finite"][sizes[-1]])[later], marker=marker, label=name)
        color = line.get_color()
        left.plot(times[later], np.array(values["infinite"])[later], marker=marker, ls=":", color=color)
        right.plot(sizes, [values["finite"][size][-1] for size in sizes], marker, color=color, label=name)
        right.plot(sizes, [values["by_chance"][size][-1] for size in sizes], "--", color=color, lw=1)
    left.plot([], [], "k-", label=f"{sizes[-1]} finite networks each")
    left.plot([], [], "k:", label="infinite width")
    right.plot([], [], "k--", lw=1, label=r"by chance, $\propto 1/\sqrt{\mathrm{networks}}$")
    for size, shade in zip(sizes, np.linspace(0.8, 0.0, len(sizes)), strict=True):
        middle.plot(
            times[later], np.array(results["test"]["finite"][size])[later], "o-", color=str(shade), label=f"{size}"
        )
    plain = np.array(results["test"]["infinite, not augmented"])[later]
    middle.plot(times[later], plain, "r--", label="infinite width,\nwithout augmentation")
    left.set(yscale="log", title="all sets of inputs", ylabel="difference of mean logits")
    middle.set(yscale="log", title="test images, by networks in each ensemble")
    right.set(yscale="log", title=f"at t = {times[-1]:.3g}", xlabel="networks in each ensemble")
    right.set_xscale("log", base=2)
    right.set_xticks(sizes, [str(size) for size in sizes])
    for axes in (left, middle):
        axes.set(xscale="log", xlabel="training time t = learning rate x steps")
        axes.xaxis.set_minor_formatter("")
    places = {left: ("center right", 1, 1), middle: ("lower left", 0.35, 1), right: ("lower left", 0.35, 1)}
    for axes, (place, below, above) in places.items():
        low, high = axes.get_ylim()
        axes.set_ylim(low * below, high * above)  # room for the legend
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(frameon=False, fontsize=8, loc=place, ncols=1 if axes is left else 2)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(args: argparse.Namespace) -> None:
    """Load, predict, train, compare, write."""
    require_matplotlib("augmentation_vs_equivariance.py")  # now, not after minutes of work
    if args.members < 2:
        raise ValueError("--members: expected at least 2, for a scatter.")
    if not 0 < args.rate < 1:
        raise ValueError(f"--rate: expected a share between 0 and 1, got {args.rate}.")
    started = time.perf_counter()
    out = output_folder(args.out)
    data = load_images(args.data, args.pixels)
    y, sets = input_sets(data, args)
    rate, times, theory = infinite_width(sets, y, args.depth, args.rate, args.steps)
    print(f"kernels: {time.perf_counter() - started:.0f} s; learning rate {rate:.3g}", flush=True)
    found = train_ensembles(sets, y, times, rate, args, out)
    results = compare(found, sets, theory)
    print_tables(results, times)
    title = f"CNN on turned copies and C4 network: {args.sizes} images, {args.depth} convolutions of width {args.width}"
    picture = replace_file(out / "augmentation.png", lambda path: draw_picture(results, times, title, path))
    seconds = time.perf_counter() - started
    file = write_json(out / "augmentation.json", {"settings": settings(args), "learning_rate": rate, "seconds": seconds,
                      "times": times.tolist(), "differences": results})  # fmt: skip
    print(f"\n{picture}\n{file}\n{seconds:.0f} s in all, {time.process_time():.0f} s of processors")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)  # for the kernels; the networks are in the images' single precision
    run_example(run, read_arguments)
