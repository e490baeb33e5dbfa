"""``so3ntk spectrum``: eigenvalues, the targets' power in them, and the learning curve that follows, over the measured one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from so3ntk.cli.images import add_source
from so3ntk.cli.molecules import add_data_options as add_molecule_options
from so3ntk.cli.molecules import add_network_options, load_molecules, network_of, read_environments
from so3ntk.cli.results import (
    HelpFormatter,
    add_message_options,
    add_shared_options,
    check_options,
    make_activation,
    not_negative,
    output_folder,
    positive,
    replace_file,
    say,
    settings,
    write_json,
)


class Problem(NamedTuple):
    """A Gram matrix of sample and test inputs, test inputs last; targets; what they are called, and their unit."""

    kernel: Any
    targets: np.ndarray
    name: str
    unit: str


def add_command(commands: Any) -> None:
    """The command's parser, and one for each kind of inputs."""
    parser = commands.add_parser(
        "spectrum",
        help="what a kernel learns first, and how many inputs it will need",
        description="Eigenvalues of a Gram matrix, the power of the targets in them, and the learning curve predicted from a sample, over the "
        "measured one: prints tables, writes a picture and the results as JSON.",
        formatter_class=HelpFormatter,
    )
    kinds = parser.add_subparsers(dest="source", required=True)
    molecules = _add_kind(kinds, "molecules", "energies of molecules, less what composition predicts")
    add_molecule_options(molecules)
    add_network_options(molecules)
    add_shared_options(molecules, out="so3ntk-results", activation="products")
    images = _add_kind(kinds, "images", "classes of images, as centred one-hot targets")
    _add_image_options(images)
    add_shared_options(images, out="so3ntk-results")
    gram = _add_kind(kinds, "gram", "a stored Gram matrix and its targets")
    _add_gram_options(gram)
    add_message_options(gram)
    for kind, read in ((molecules, _of_molecules), (images, _of_images), (gram, _of_gram)):
        kind.set_defaults(run=run, read=read)


def _add_kind(kinds: Any, name: str, text: str) -> argparse.ArgumentParser:
    """What all kinds are told: the sample, what is predicted and what is measured."""
    parser = kinds.add_parser(name, help=text, description=f"The spectrum of {text}.", formatter_class=HelpFormatter)
    add = parser.add_argument
    add("--sample", type=positive, default=1000, help="inputs whose spectrum it is")
    add("--test", type=not_negative, default=200, help="inputs that measured errors are of; 0 for no measured curve")
    add("--sizes", type=positive, nargs="+", help="training inputs at which errors are predicted, and measured up to the sample's; "
        "default: from an eighth of the sample to ten times it")  # fmt: skip
    add("--ridge", type=float, help="in units of the mean of the kernel's diagonal; default: the best at each size")
    add("--draws", type=positive, default=5, help="training and test sets that measured errors are means over")
    add("--seed", type=not_negative, default=0, help="of the draw of inputs")
    return parser


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    add = parser.add_argument
    add("--group", default="C4", help="C1 (the CNN), C2, C4, D4")
    add("--depth", type=positive, default=2, help="nonlinearities before pooling")
    add("--filter", type=positive, help="pixels along a filter's side; default: global support")
    add("--padding", choices=("CIRCULAR", "SAME", "VALID"), default="CIRCULAR", help="at the border of the images")


def _add_gram_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--store", required=True, help="the store, as so3ntk gram and gram(store=) write it, or an npy file")
    add("--get", choices=("ntk", "nngp"), help="which kernel of the store; default: the one there is")
    add("--targets", required=True, metavar="FILE", help="npy, or text with a row for each input")
    add("--unit", default="", help="of the targets, for the labels")
    add("--out", default="so3ntk-results", help="folder of the results")


def run(args: argparse.Namespace) -> int:
    """The spectrum of the sample, the curve, and what is measured."""
    import jax

    jax.config.update("jax_enable_x64", getattr(args, "precision", "float64") == "float64")
    from so3ntk.basics.plots import require_matplotlib
    from so3ntk.spectra import measured_errors, spectrum

    require_matplotlib("so3ntk spectrum")  # now, not after minutes of work
    if hasattr(args, "memory"):
        check_options(args)
    out, started = output_folder(args.out), time.perf_counter()
    problem: Problem = args.read(args)
    sample = len(problem.targets) - args.test
    say(args, f"{problem.name}: a sample of {sample}, {args.test} for the test")
    found = spectrum(problem.kernel[:sample, :sample], problem.targets[:sample])
    sizes = sorted(set(args.sizes or [round(sample * share) for share in (0.125, 0.25, 0.5, 1, 2, 4, 10)]))
    curve = found.learning_curve(sizes, None if args.ridge is None else args.ridge * found.scale)
    known = curve.sizes <= sample
    measured = []
    if args.test and known.any():
        options = {"test": args.test, "draws": args.draws, "seed": args.seed}
        measured = measured_errors(problem.kernel, problem.targets, curve.sizes[known], curve.ridges[known], **options)
    means = [(int(size), _mean(measured, int(size))) for size in curve.sizes[known]] if measured else []
    print(f"{found}\n\nroot mean square error{f' [{problem.unit}]' if problem.unit else ''}\n{curve}")
    for size, value in means:
        print(f"measured at {size}: {value:.4g}, mean over {args.draws} draws")
    picture = replace_file(out / "spectrum.png", lambda path: found.plot(
        path, curve, means, title=problem.name, unit=problem.unit))  # fmt: skip
    results = {
        "settings": {name: value for name, value in settings(args).items() if name != "read"},
        "unit": problem.unit, "spectrum": found.as_dict(), "predicted": curve.as_dict(),
        "measured": [{**each._asdict(), "rmse": each.rmse} for each in measured], "seconds": time.perf_counter() - started,
    }  # fmt: skip
    file = write_json(out / "spectrum.json", results)
    print(f"{picture}\n{file}\n{results['seconds']:.0f} s in all")
    return 0


def _mean(measured: Sequence[Any], size: int) -> float:
    return float(np.sqrt(np.mean([each.mse for each in measured if each.size == size])))


def _of_molecules(args: argparse.Namespace) -> Problem:
    from so3ntk.matrices.gram import gram
    from so3ntk.molecules.baseline import CompositionBaseline

    data = load_molecules(args, "--sample", args.sample, args.seed)
    baseline = CompositionBaseline().fit(data.atoms[: args.sample], data.targets[: args.sample])
    x = read_environments(args, data.atoms)
    net = network_of(args, x)
    kernel = gram(net, x, get=args.kernel, memory=args.memory, progress=not args.quiet)
    return Problem(
        np.asarray(kernel), data.targets - baseline.predict(data.atoms), f"{data.target} of molecules", data.unit
    )


def _of_images(args: argparse.Namespace) -> Problem:
    from planar.datasets.source import load_images
    from planar.experiments import image_network
    from so3ntk.learning.classifier import centred_one_hot
    from so3ntk.matrices.gram import gram

    data = load_images(args.data, args.pixels, images=args.images, labels=args.labels)
    needed = args.sample + args.test
    if needed > len(data):
        raise ValueError(f"--sample and --test ask for {needed} images, there are {len(data)}.")
    rows = np.random.default_rng(args.seed).permutation(len(data))[:needed]
    net = image_network(args.group, args.depth, args.filter, args.padding, make_activation(args.activation))
    images = np.asarray(data.images)[rows].astype(args.precision)
    kernel = gram(net, images, get=args.kernel, memory=args.memory, progress=not args.quiet)
    targets = centred_one_hot(np.asarray(data.labels)[rows], len(data.classes))
    return Problem(np.asarray(kernel), targets, f"images, {len(data.classes)} classes", "")


def _of_gram(args: argparse.Namespace) -> Problem:
    """Rows of the matrix drawn at random."""
    from so3ntk.matrices.stored import open_gram

    kernel: Any = (
        np.load(args.store, mmap_mode="r") if Path(args.store).suffix == ".npy" else open_gram(args.store, args.get)
    )
    targets = np.load(args.targets) if Path(args.targets).suffix == ".npy" else np.loadtxt(args.targets)
    if len(targets) != kernel.shape[0]:
        raise ValueError(
            f"--targets: expected a row for each of the {kernel.shape[0]} inputs of {args.store}, got shape {targets.shape}."
        )
    needed = args.sample + args.test
    if needed > len(targets):
        raise ValueError(
            f"--sample and --test ask for {needed} inputs, {args.store} holds {len(targets)}: pass --sample {len(targets) - args.test}, say."
        )
    rows = np.random.default_rng(args.seed).permutation(len(targets))[:needed]
    return Problem(np.asarray(kernel[np.ix_(rows, rows)]), targets[rows], Path(args.store).name, args.unit)
