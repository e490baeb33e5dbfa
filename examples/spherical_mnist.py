"""Spherical digits: trained upright, tested under random rotations; SO(3) kernels, with filters on caps, and an MLP's.

    python examples/spherical_mnist.py
    python examples/spherical_mnist.py --data mnist.npz --sizes 250 500 1000 --test 2000 --seed 0 1 2
    python examples/spherical_mnist.py --data mnist.npz --extent 2.2 --sizes 1000 10000 --inducing 2000 --test 2000 --rotated --kernels so3

Pictures are laid around the north pole by stereographic projection, onto the northern hemisphere (Cohen et al. 2018, "Spherical CNNs") or, with
--extent, onto more of the sphere, so that few harmonics show more of them; described by harmonics below the bandlimit, and brought to norm one.
Training pictures stay as they are; each test picture is turned by a random rotation of its own, once. The kernels: a lifting convolution with
filters on the whole sphere, products of five independent channels, the mean over all rotations ("SO(3)"), so that k(f, f') is the mean of
<f, R f'>^5; the same with filters on caps ("caps": hundreds of times the cost, so ask for it at low bandlimits, --kernels caps); and a fully
connected network with ReLU on the coefficients ("MLP"). Ridges are chosen by exact leave-one-out errors of the training pictures. Of more than
--inducing pictures, so many span the functions that are fitted.

Why products: their kernel is a polynomial in the correlations, so that a small grid of rotations is exact, and float32 is enough. ReLU's (--power 0)
is nearly constant after the mean: what tells classes apart are eigenvalues of 10^-5 of the largest. It asks for --precision float64, and for four
points for each degree in the angles (--points 40 at bandlimit 10) where the rule's two leave errors as large as these.

--data is what ``planar.datasets.load_parts`` reads: an npz file of MNIST's or MedMNIST's names, MNIST's folder; or another npz file or folder of
tiles, of which a part is kept for testing; default: scikit-learn's digits. Prints a table, writes spherical_mnist.png and spherical_mnist.json; of
MNIST with a line at S2CNN's published accuracy, trained on 60,000 upright digits and tested on turned ones.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import so3ntk
from planar.datasets import ImageData, load_parts, stratified_split
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

#: Trained unrotated, tested rotated, on MNIST: Cohen et al. (2018), table 1.
S2CNN = 0.94
LABELS = {"so3": "SO(3)", "caps": "SO(3), caps", "mlp": "MLP"}


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", metavar="PATH", help="npz file, MNIST's folder, or folder of images; default: digits")
    add("--bandlimit", type=positive, default=8, help="degrees of the harmonics (8)")
    add("--extent", type=float, default=np.pi / 2, help="angle of pictures' corners from the pole, in radians (pi / 2)")
    add("--power", type=not_negative, default=5, help="how many channels are multiplied; 0: ReLU (5)")
    add("--points", type=positive, help="rotations in alpha and gamma; default: the kernel's own choice")
    add("--inducing", type=positive, help="how many pictures span what is fitted, where there are more; default: all")
    add("--sizes", type=positive, nargs="+", default=[50, 100, 200, 400], help="training pictures")
    add("--test", type=positive, default=400, help="test pictures (400)")
    add("--seed", type=not_negative, nargs="+", default=[0], help="of pictures and rotations; several: their means")
    add("--kernels", choices=tuple(LABELS), nargs="+", default=["so3", "mlp"], help="so3, caps, mlp")
    add("--depth", type=positive, default=1, help="nonlinearities (1)")
    add("--cap", type=float, default=0.8, help="half-angle of caps in radians (0.8)")
    add("--kernel", choices=("ntk", "nngp"), default="nngp", help="which kernel of the networks (nngp)")
    add("--rotated", action="store_true", help="leave upright test pictures out, of which SO(3) kernels say the same")
    add("--precision", choices=("float32", "float64"), default="float32", help="of the matrices")
    add("--memory", default="2GiB", help="budget of the matrices beyond their results")
    add("--out", default="so3ntk-results/spherical_mnist", help="folder of the results")
    return read_options(parser, {"bandlimit": 6, "sizes": [50, 100, 200], "test": 200})


def network(name: str, args: argparse.Namespace) -> so3ntk.Network:
    """The networks that are compared."""
    if name == "mlp":
        hidden = [layer for _ in range(args.depth) for layer in (so3ntk.Dense(), so3ntk.Relu())]
        return so3ntk.serial(so3ntk.Flatten(), *hidden, so3ntk.Dense())
    support = args.cap if name == "caps" else None
    activation = so3ntk.Products((*args.power * (0.0,), 1.0)) if args.power else so3ntk.Relu()
    layers: list[Any] = [so3ntk.Lift(support=support), activation]
    for _ in range(args.depth - 1):
        layers += [so3ntk.GroupConv(support=support), activation]
    grid = None if args.points is None else so3ntk.ProductGrid(args.points)
    return so3ntk.serial(*layers, so3ntk.GroupPool(), so3ntk.Dense(), quadrature=grid)


def signals(pictures: ImageData, args: argparse.Namespace) -> so3ntk.SphereSignal:
    """Pictures around the north pole, of norm one."""
    images = pictures.images.astype(args.precision)
    batch = so3ntk.SphereSignal.from_images(images, args.bandlimit, extent=args.extent)
    norms = np.linalg.norm(np.asarray(batch.coefficients), axis=(1, 2), keepdims=True)
    return so3ntk.SphereSignal(batch.coefficients / norms, args.bandlimit)


def drawn(data: tuple[ImageData, ImageData | None], train: int, test: int, seed: int) -> tuple[ImageData, ImageData]:
    """Pictures with the classes' shares of the whole, in random order: the first of them are smaller training sets."""
    pictures, tests = data
    if tests is None:
        pictures, tests = stratified_split(pictures, train, test, seed)
    else:
        pictures, tests = stratified_split(pictures, train, 0, seed)[0], stratified_split(tests, test, 0, seed)[0]
    order = np.random.default_rng(seed).permutation(len(pictures))
    return ImageData(pictures.images[order], pictures.labels[order], pictures.classes), tests


def accuracies(
    net: so3ntk.Network,
    train: Any,
    tests: dict[str, Any],
    labels: tuple[np.ndarray, np.ndarray],
    args: argparse.Namespace,
) -> dict[str, dict[int, float]]:
    """Shares of test pictures that are right, upright and rotated, for each number of training pictures."""
    dense = [size for size in args.sizes if size <= (args.inducing or size)]
    found: dict[str, dict[int, float]] = {name: {} for name in tests}
    if dense:
        options: dict[str, Any] = {"get": args.kernel, "memory": args.memory, "progress": True}
        gram = so3ntk.gram(net, train[: max(dense)], **options)
        cross = {name: so3ntk.gram(net, test, train[: max(dense)], **options) for name, test in tests.items()}
    for size in args.sizes:
        if size in dense:
            model = so3ntk.KernelClassifier("precomputed").fit(gram[:size, :size], labels[0][:size])
            guesses = {name: model.predict(kernel[:, :size]) for name, kernel in cross.items()}
        else:
            model = so3ntk.InducingClassifier(
                net, args.inducing, kernel=args.kernel, memory=args.memory, progress=True
            ).fit(train[:size], labels[0][:size])
            guesses = {name: model.predict(test) for name, test in tests.items()}
        for name, guess in guesses.items():
            found[name][size] = float(np.mean(guess == labels[1]))
    return found


def run(args: argparse.Namespace) -> None:
    """Load, turn, compute the kernels, classify, write."""
    plt = require_matplotlib("spherical_mnist.py")
    jax.config.update("jax_enable_x64", args.precision == "float64")
    out, data, started = output_folder(args.out), load_parts(args.data), time.perf_counter()
    results: dict[str, list[dict[str, dict[int, float]]]] = {name: [] for name in args.kernels}
    seconds = dict.fromkeys(args.kernels, 0.0)
    for seed in args.seed:
        pictures, tested = drawn(data, max(args.sizes), args.test, seed)
        train, test = (signals(part, args) for part in (pictures, tested))
        turned = so3ntk.rotate(test, so3ntk.random_rotations(len(test), seed))
        for name in args.kernels:
            begun = time.perf_counter()
            net = network(name, args)
            sets = {"rotated": turned} if args.rotated else {"upright": test, "rotated": turned}
            results[name].append(accuracies(net, train, sets, (pictures.labels, tested.labels), args))
            seconds[name] += time.perf_counter() - begun
    print(f"{'':14}{'':>10}" + "".join(f"{size:>9}" for size in args.sizes) + "   training pictures")
    table: dict[str, dict[str, list[float]]] = {}
    for name, runs in results.items():
        table[name] = {}
        for kind in runs[0]:
            means = [float(np.mean([run[kind][size] for run in runs])) for size in args.sizes]
            table[name][kind] = means
            print(f"{LABELS[name]:14}{kind:>10}" + "".join(f"{100 * mean:>8.1f}%" for mean in means))
    for name, each in seconds.items():
        print(f"{LABELS[name]}: {each:.0f} s")
    write_json(out / "spherical_mnist.json", {
        "settings": settings(args), "accuracies": table, "seeds": results, "seconds": seconds, "total": time.perf_counter() - started,
    })  # fmt: skip
    draw(plt, table, args, out)


def draw(plt: Any, table: dict[str, dict[str, list[float]]], args: argparse.Namespace, out: Path) -> None:
    """Accuracy against training pictures, upright and rotated."""
    figure, axes = plt.subplots(figsize=(6.2, 4.2), layout="constrained")
    for index, (name, kinds) in enumerate(table.items()):
        for kind, means in kinds.items():
            style = "o--" if kind == "upright" else "o-"
            axes.semilogx(args.sizes, means, style, color=f"C{index}", label=f"{LABELS[name]}, {kind}")
    if args.data is not None and "mnist" in Path(args.data).name.lower():
        axes.axhline(S2CNN, color="k", ls=":", label="S2CNN, 60,000, rotated")
    axes.set(xlabel="training pictures, upright", ylabel="accuracy", ylim=(0, 1))
    axes.set_xticks(args.sizes, [str(size) for size in args.sizes])
    axes.minorticks_off()
    axes.set_title(f"Pictures on the sphere, bandlimit {args.bandlimit}")
    axes.legend(fontsize=8)
    replace_file(out / "spherical_mnist.png", lambda temporary: figure.savefig(temporary, dpi=150, format="png"))
    plt.close(figure)


if __name__ == "__main__":
    run_example(run, read_arguments)
