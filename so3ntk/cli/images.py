"""``so3ntk images``: image classifiers whose test images are turned."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from so3ntk.basics.namesake import require_planar
from so3ntk.cli.results import (
    HelpFormatter,
    add_shared_options,
    check_options,
    format_table,
    make_activation,
    not_negative,
    output_folder,
    positive,
    replace_file,
    say,
    settings,
    write_json,
)


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "images",
        help="accuracy on images that are turned at test time",
        description="Compare the kernel of a CNN with those of networks equivariant under quarter turns and reflections "
        "at growing training sizes. Training images are upright, test images are turned by random quarter turns. Prints "
        "a table, writes a picture and the results as JSON.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add_source(parser)
    add("--per-class", type=positive, help="read so many tiles of each class from a folder of tiles; default: all")
    add("--sizes", type=positive, nargs="+", default=[20, 40, 80, 160], help="training images")
    add("--test", type=positive, default=200, help="test images")
    add("--seed", type=not_negative, default=0, help="of the draw of images and of their turns")
    add("--upright", action="store_true", help="leave the test images as they are")
    add("--groups", nargs="+", default=["C1", "C4", "D4"], help="C1 (the CNN), C2, C4, D4")
    add("--depth", type=positive, default=2, help="nonlinearities before pooling, one more than layers GroupConv")
    add("--filter", type=_filter_size, default=3, help="pixels along a filter's side, or 'global'")
    add("--padding", choices=("CIRCULAR", "SAME", "VALID"), default="SAME", help="at the border of the images")
    add_shared_options(parser, out="so3ntk-results")
    parser.set_defaults(run=run)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that say which images, for ``planar.datasets.load_images``."""
    add = parser.add_argument
    add("--data", metavar="PATH", help="an npz file, MNIST's folder of idx files, or a folder with a sub-folder of tiles "
        "for each class; default: scikit-learn's digits")  # fmt: skip
    add(
        "--images", metavar="NAME", help="which images: an array of the npz file, or an idx file (in the folder --data)"
    )
    add("--labels", metavar="NAME", help="their labels, likewise")
    add("--pixels", type=positive, help="average images down to so many pixels along a side; default: as they are")


def run(args: argparse.Namespace) -> int:
    """The main job of images."""
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    require_planar("so3ntk images")
    from planar.datasets import quarter_turns
    from planar.datasets.source import load_images
    from planar.experiments import LABELS, compare, draw, image_network
    from so3ntk.basics.plots import require_matplotlib

    require_matplotlib("so3ntk images")  # now, not after minutes of work
    check_options(args)
    out = output_folder(args.out)
    started = time.perf_counter()
    layers = args.depth, args.filter, args.padding, make_activation(args.activation)
    networks = {group: image_network(group, *layers) for group in dict.fromkeys(args.groups)}
    data = load_images(args.data, args.pixels, args.per_class, args.seed, images=args.images, labels=args.labels)
    drawn = draw(data, args.sizes, args.test, args.seed)
    if not args.upright:
        drawn = drawn._replace(test=quarter_turns(drawn.test, args.seed))
    turned = "upright" if args.upright else "turned by random quarter turns"
    say(args, f"{describe(data)}; test images {turned}")
    options = {"memory": args.memory, "progress": not args.quiet}
    found = compare(networks, drawn, args.kernel, args.precision, lambda group: say(args, LABELS[group]), **options)
    write_accuracies(found, args, out, started, f"{args.test} test images, {turned}", data.classes)
    return 0


def describe(data: Any) -> str:
    """How many images, of which shape and how many classes."""
    height, width, channels = data.images.shape[1:]
    return f"{len(data)} images of {height} x {width} x {channels}, {len(data.classes)} classes"


def write_accuracies(
    found: Any, args: argparse.Namespace, out: Path, started: float, title: str, classes: Sequence[str]
) -> None:
    """Print the table of a ``planar.experiments.Comparison``, write accuracy.png and accuracy.json."""
    from planar.experiments import LABELS
    from so3ntk.basics.plots import plot_learning_curves

    values = [(p.method, p.size, 100 * p.accuracy) for p in found.points]
    print(format_table("accuracy [%]", [(LABELS[method], size, value) for method, size, value in values], digits=1))
    picture = replace_file(out / "accuracy.png", lambda path: plot_learning_curves(
        values, path, labels=LABELS, percent=True, xlabel="training images", ylabel="accuracy [%]", title=title
    ))  # fmt: skip
    seconds = time.perf_counter() - started
    results = {
        "settings": settings(args),
        "classes": list(classes),
        "gram_seconds": found.seconds,
        "seconds": seconds,
        "points": [asdict(point) for point in found.points],
    }
    file = write_json(out / "accuracy.json", results)
    print(f"{picture}\n{file}\n{seconds:.0f} s in all")


def _filter_size(text: str) -> int | None:
    return None if text == "global" else positive(text)
