"""Few learned images in place of a data set: a fully connected kernel beside the one that is invariant under quarter turns.

    python examples/distillation.py
    python examples/distillation.py --data mnist.npz --steps 3000 --batch 1024 --out so3ntk-results/mnist

Support images, 1 and 10 per class, are moved by descent until kernel ridge regression on them alone predicts the labels of all training
images (Nguyen, Chen, Lee 2021, "Dataset meta-learning from kernel ridge regression"). Kernels are NTKs of fully connected networks
(W_std = sqrt(2), no biases); "C4" is their mean over the quarter turns of one image, so that a learned image stands for its orbit. Training images
are upright; test images are upright, and each turned by a random multiple of 90 degrees. Every image is brought to zero mean and unit
variance, which turns leave as it is. The support's labels are learned too, unless --fixed-labels is given.

--data is what ``planar.datasets.load_parts`` reads: an npz file of MNIST's or MedMNIST's names, MNIST's folder; or another npz file or folder
of tiles, of which --test images are kept for testing; default: scikit-learn's digits. --validation tests on so many training images that are left out
in place of the test images: to choose settings. The defaults take some two minutes of one core, most of them compilation. Prints a table, writes
distillation.png and distillation.json, and a picture of each set of images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import planar
import so3ntk
from planar.datasets import ImageData, load_parts, quarter_turns, stratified_split
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

LABELS = {"C1": "MLP", "C2": "C2", "C4": "C4", "D4": "D4"}


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="PATH", help="npz file, MNIST's folder, or folder of images; default: digits")
    add("--sizes", "--per-class", type=positive, nargs="+", default=[1, 10], help="learned images of each class (1 10)")
    add(
        "--groups",
        choices=tuple(LABELS),
        nargs="+",
        default=["C1", "C4"],
        help="C1 is the MLP, C4 and D4 cost 4 and 8 times as much (C1 C4)",
    )
    add("--depth", type=positive, default=3, help="hidden layers (3)")
    add("--kernel", choices=("ntk", "nngp"), default="ntk", help="which kernel of the networks (ntk)")
    add("--steps", type=positive, default=300, help="of descent (300)")
    add("--batch", type=positive, default=512, help="training images in a step (512)")
    add("--learning-rate", type=float, default=0.1, help="of the first step, in units of a pixel's deviation (0.1)")
    add("--diag-reg", type=float, default=1e-6, help="ridge, in units of the kernel's mean diagonal (1e-6)")
    add("--fixed-labels", action="store_true", help="learn images alone")
    add("--test", type=positive, default=400, help="test images, where the data do not have their own (400)")
    add("--validation", type=not_negative, default=0, help="training images to test on in place of test images (0)")
    add("--seed", type=not_negative, default=0, help="of the draw of images, of batches and of turns (0)")
    add("--out", default="so3ntk-results/distillation", help="folder of the results")
    return read_options(parser, {"steps": 60, "batch": 256, "sizes": [1], "depth": 1})


def kernel_of(group: str, depth: int) -> Any:
    """A fully connected network; for other groups than C1 the mean of its kernel over the group's motions of one image."""
    hidden = [layer for _ in range(depth) for layer in (so3ntk.Dense(W_std=2**0.5), so3ntk.Relu())]
    net = so3ntk.serial(planar.Flatten(), *hidden, so3ntk.Dense())
    return net if group == "C1" else so3ntk.augmented(net.kernel_fn, planar.motions(group))


def read(args: argparse.Namespace) -> tuple[ImageData, ImageData]:
    """Training images, and those to test on."""
    train, test = load_parts(args.data)
    if test is None:
        train, test = stratified_split(train, len(train) - args.test, args.test, args.seed)
    if args.validation:  # of which no test image is
        return stratified_split(train, len(train) - args.validation, args.validation, args.seed)
    return train, test


def standardised(data: ImageData) -> np.ndarray:
    """Every image with zero mean and unit variance; those of one colour are zero."""
    axes = (1, 2, 3)
    images = data.images - data.images.mean(axes, keepdims=True)
    deviation = images.std(axes, keepdims=True)
    return images / np.where(deviation > 0, deviation, 1)


def run(args: argparse.Namespace) -> None:
    """Load, distil, test, write."""
    plt = require_matplotlib("distillation.py")
    jax.config.update("jax_enable_x64", True)  # for the solve; kernels are in single precision, as the images
    out, started = output_folder(args.out), time.perf_counter()
    train, test = read(args)
    turned = quarter_turns(test, args.seed)
    x, tests = standardised(train), {"upright": standardised(test), "turned": standardised(turned)}
    print(f"{len(train)} training images, {len(test)} to test on")
    print(f"{'':8}{'per class':>10}{'upright':>10}{'turned':>10}{'loss':>10}{'seconds':>10}")
    results, found = [], {}
    for group in args.groups:
        for count in args.sizes:
            begun = time.perf_counter()
            model = so3ntk.distill(
                kernel_of(group, args.depth), x, train.labels, count * len(train.classes), kernel=args.kernel,
                learn_labels=not args.fixed_labels, steps=args.steps, batch=min(args.batch, len(x)),
                learning_rate=args.learning_rate, diag_reg=args.diag_reg, seed=args.seed,
            )  # fmt: skip
            seconds = time.perf_counter() - begun
            right = {kind: model.score(images, test.labels) for kind, images in tests.items()}
            loss = float(model.losses[-20:].mean())
            print(
                f"{LABELS[group]:8}{count:>10}{100 * right['upright']:>9.1f}%{100 * right['turned']:>9.1f}%{loss:>10.4f}{seconds:>10.0f}",
                flush=True,
            )
            results.append(
                {
                    "kernel": LABELS[group],
                    "per_class": count,
                    **right,
                    "loss": loss,
                    "seconds": seconds,
                    "losses": model.losses[:: max(1, args.steps // 200)].tolist(),
                }
            )
            found[group, count] = model
            replace_file(out / f"{LABELS[group]}_{count}.png", model.plot)
    write_json(out / "distillation.json", {
        "settings": settings(args), "training": len(train), "tested": len(test), "results": results, "total": time.perf_counter() - started,
    })  # fmt: skip
    draw(plt, found, results, args, out)


def draw(
    plt: Any, found: dict[tuple[str, int], Any], results: list[dict[str, Any]], args: argparse.Namespace, out: Path
) -> None:
    """Learned images: a row for each number per class, kernels side by side, titled with their accuracies."""
    figure, grid = plt.subplots(
        len(args.sizes), len(args.groups), squeeze=False, layout="constrained",
        figsize=(5.2 * len(args.groups), 0.5 * sum(args.sizes) + 0.75 * len(args.sizes)), height_ratios=args.sizes,
    )  # fmt: skip
    for result, ((group, count), model) in zip(results, found.items(), strict=True):
        title = f"{result['kernel']}, {count} per class: {100 * result['upright']:.1f} % upright, {100 * result['turned']:.1f} % turned"
        model.plot(axes=grid[args.sizes.index(count), args.groups.index(group)], title=title)
    replace_file(out / "distillation.png", lambda temporary: figure.savefig(temporary, dpi=150, format="png"))
    plt.close(figure)


if __name__ == "__main__":
    run_example(run, read_arguments)
