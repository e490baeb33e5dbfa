"""Spectral bias: which part of a target three kinds of networks learn, and when, on training images and on others.

    python examples/spectral_bias.py
    python examples/spectral_bias.py --data mnist.npz --pixels 6 --sizes 6 --share 0.8

The inputs are some images, turned by quarter turns and shifted (cyclically) in all ways. The target is a sum of four parts: one that is
the same for all copies of an image, one that depends on the turn, and two waves in the shift, slow and fast. A share of the copies,
drawn at random, is for training. Three networks learn them, by gradient flow of their tangent kernels:

* a fully connected one,
* the same, averaged over quarter turns of its inputs, as if it had been trained on turned copies,
* one that is equivariant under turns and shifts, and pooled.

``so3ntk.spectra.irrep_spectrum`` says beforehand, from the kernel of unmoved images with moved ones alone, which parts each can learn and how
fast: all three have the same eigenvalues and differ in the functions they keep. The lines are that prediction, of gradient flow on all
copies; the points what is left of each part, over all copies, after gradient flow on the share (Bowman and Montufar, 2022: the spectral bias is
that of the whole distribution as long as the sample resolves what is learned). A part that a network cannot keep stays whole. The last table
has the error on training copies and on others: beyond the times at which points leave their lines, only the former falls.

Prints a table, writes spectral_bias.png and spectral_bias.json. The defaults take a quarter of a minute on one core.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax
import numpy as np

import planar
import so3ntk
from planar.datasets import load_images
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import not_negative, output_folder, positive, read_options, settings, write_json
from so3ntk.spectra import IrrepSpectrum, irrep_spectrum


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="PATH", help="npz file, MNIST's folder, or folder of images; default: digits")
    add("--pixels", type=positive, default=6, help="along a side, at least 5 (6)")
    add("--sizes", "--images", type=positive, default=4, metavar="N", help="how many images are moved, one number (4)")
    add("--share", type=float, default=0.7, help="of all copies, for training (0.7)")
    add("--seed", type=not_negative, default=0, help="of images, targets and training copies (0)")
    add("--out", default="so3ntk-results/spectral_bias", help="folder of the results")
    args = read_options(parser, {"sizes": 2, "pixels": 5})
    if not 0 < args.share < 1:
        parser.error(f"--share: expected a number between 0 and 1, got {args.share}")
    if args.pixels < 5:
        parser.error("--pixels: expected at least 5, for a slow and a fast wave")
    return args


def network() -> so3ntk.Network:
    """The fully connected one."""
    layers = [layer for _ in range(2) for layer in (so3ntk.Dense(W_std=1.5, b_std=0.1), so3ntk.Relu())]
    return so3ntk.serial(planar.Flatten(), *layers, so3ntk.Dense())


def parts_of(spectrum: IrrepSpectrum, size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Four functions (images, motions), each of mean square one; motions in the order (turn, row, column) of ``moved``."""
    n = spectrum.signals
    turn, row, column = np.meshgrid(np.arange(4), np.arange(size), np.arange(size), indexing="ij")
    waves = {
        "the same for all copies": np.ones(turn.shape),
        "depends on the turn": np.cos(np.pi / 2 * turn),
        "slow wave in the shift": np.cos(2 * np.pi * row / size),
        "fast wave in the shift": np.cos(2 * np.pi * (2 * row + column) / size),
    }
    parts = {}
    for name, wave in waves.items():
        values = rng.normal(size=(n, 1)) * wave.reshape(1, -1)
        parts[name] = values / np.sqrt((values**2).mean())
    return parts


def kernels_of(net: so3ntk.Network, moved: Any, n: int) -> dict[str, tuple[Any, np.ndarray]]:
    """For each network what it keeps, in the words of ``IrrepSpectrum``, and its kernel of all copies."""
    dense = np.asarray(net.kernel_fn(moved, None, "ntk"))
    turns = planar.motions("C4")
    copies = len(moved) // n
    pooled = dense.reshape(n, copies, n, copies).mean(axis=(1, 3))  # the theorem: augmentation is equivariance
    return {
        "fully connected": ("mlp", dense),
        "trained with turns": (turns, np.asarray(so3ntk.augmented(net.kernel_fn, turns)(moved, None, "ntk"))),
        "equivariant": ("equivariant", np.repeat(np.repeat(pooled, copies, axis=0), copies, axis=1)),
    }


def what_is_left(
    spectrum: IrrepSpectrum, parts: dict[str, np.ndarray], kernel: np.ndarray, train: np.ndarray, times: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """For each part the share of its power that is left at each time, and mean squares on training copies and on others."""
    target = np.sum(list(parts.values()), axis=0).ravel()
    outputs = so3ntk.predict.gradient_flow(kernel[np.ix_(train, train)], target[train], kernel[:, train], times)
    left = np.asarray(target - outputs)
    others = np.setdiff1d(np.arange(len(target)), train)
    n = spectrum.signals
    powers = np.array([spectrum.target(one.reshape(n, -1)).power for one in left])
    same = (left.reshape(len(times), n, -1).mean(axis=2) ** 2).mean(axis=1)
    found = {}
    for name, part in parts.items():
        kind = int(np.argmax(spectrum.target(part).power))
        found[name] = powers[:, kind] if kind else same if name == "the same for all copies" else powers[:, 0] - same
    return {
        "parts": found,
        "all": {"training": (left[:, train] ** 2).mean(axis=1), "others": (left[:, others] ** 2).mean(axis=1)},
    }


def row(name: str, *columns: np.ndarray) -> str:
    """Two numbers at each fifth of the times, the first of the columns."""
    chosen = zip(*(column[5::5] for column in columns), strict=True)
    return f"  {name:26s}" + "".join(f"  t={t:<7.3g}{first:6.3f}{second:6.3f}" for t, first, second in chosen)


def draw(results: dict[str, Any], times: np.ndarray, path: Any) -> None:
    """One panel for each network."""
    plt = require_matplotlib("spectral_bias.py")
    figure, panels = plt.subplots(1, 3, figsize=(14, 4.6), sharey=True, constrained_layout=True)
    for axes, (network_name, result) in zip(panels, results.items(), strict=True):
        for i, name in enumerate(result["predicted"]):
            axes.plot(times, result["predicted"][name], "-", color=f"C{i}", label=name)
            axes.plot(times, result["left"]["parts"][name], "o", ms=3.5, color=f"C{i}")
        axes.set(xscale="log", xlabel="time of gradient flow", title=network_name, ylim=(-0.03, 1.1))
        axes.grid(True, alpha=0.3)
    panels[0].set_ylabel("what is left of each part, on all copies")
    panels[0].legend(fontsize=8)
    figure.suptitle("Lines: from the spectrum by irreps. Points: trained on a share of the copies.")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> int:
    """Run it."""
    args = read_arguments()
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(args.seed)
    data = load_images(args.data, args.pixels)
    images = data.images[rng.choice(len(data), args.sizes, replace=False)].astype(np.float64)
    images = images - images.mean(axis=(1, 2, 3), keepdims=True)
    images = images / np.sqrt((images**2).mean(axis=(1, 2, 3), keepdims=True))
    net = network()
    spectrum = irrep_spectrum(net, images, group="C4")
    print(spectrum)
    parts = parts_of(spectrum, args.pixels, rng)
    moved = spectrum.moved(images)
    train = rng.permutation(len(moved))[: round(args.share * len(moved))]
    times = np.geomspace(1, 1e5, 26)
    results: dict[str, Any] = {}
    for name, (keeps, kernel) in kernels_of(net, moved, args.sizes).items():
        predicted = {part: spectrum.target(values).residual(times, keeps).sum(axis=1) for part, values in parts.items()}
        results[name] = {"predicted": predicted, "left": what_is_left(spectrum, parts, kernel, train, times)}
    print(
        f"\nwhat is left of each part after some time, predicted and measured ({len(train)} of {len(moved)} copies trained on)"
    )
    for name, result in results.items():
        print(f"{name}:")
        for part in parts:
            print(row(part, times, result["predicted"][part], result["left"]["parts"][part]))
    print("\nmean square of what is left of all four parts together (4 at the start), on training copies and on others")
    for name, result in results.items():
        print(row(name, times, result["left"]["all"]["training"], result["left"]["all"]["others"]))
    folder = output_folder(args.out)
    draw(results, times, folder / "spectral_bias.png")
    as_lists = jax.tree.map(lambda a: np.asarray(a).tolist(), results)
    write_json(
        folder / "spectral_bias.json", {"settings": settings(args), "times": times.tolist(), "results": as_lists}
    )
    print(f"written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
