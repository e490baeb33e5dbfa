"""``so3ntk gram``: the kernel matrix of molecules in a store, by one process or by many."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from so3ntk.cli.molecules import add_network_options, is_qm9, network_of, read_environments, to_angstrom
from so3ntk.cli.results import (
    HelpFormatter,
    add_kernel_options,
    check_options,
    not_negative,
    positive,
    say,
)


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "gram",
        help="the kernel matrix of molecules, in a store that can be resumed",
        description="Compute the kernel matrix of molecules into a Zarr store. The same command again computes what is "
        "missing. With --rank i --world n, n processes that see one store (the tasks of a queue's array) compute it "
        "together. Read it with so3ntk.open_gram(store).",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add("--data", metavar="FILE", help="QM9 as npz or CSV folder, or any file ase reads; default: package qm9pack")
    add("--molecules", type=positive, help="how many, drawn at random; default: all")
    add("--seed", type=not_negative, default=0, help="of the draw of molecules")
    add_network_options(parser)
    add("--kernel", choices=("ntk", "nngp", "both"), default="ntk", help="which kernel")
    add("--store", default="so3ntk-gram.zarr", help="folder of the store, or its address, as s3://bucket/run.zarr")
    add("--tile", type=positive, help="atoms along a tile's side; default: the largest that fits the memory")
    add("--rank", type=not_negative, default=0, help="which of the processes this is")
    add("--world", type=positive, default=1, help="how many processes fill the store")
    add("--estimate", action="store_true", help="print what it would take and stop")
    add_kernel_options(parser, activation="products")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, then compute."""
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    from so3ntk.matrices.estimate import estimate
    from so3ntk.matrices.gram import gram
    from so3ntk.matrices.places import check_place, require_zarr

    require_zarr("so3ntk gram")  # now, not after minutes of work
    check_place(args.store)
    check_options(args)
    if args.rank >= args.world:
        raise ValueError(f"--rank counts from 0 and must be below --world {args.world}, got {args.rank}.")
    started = time.perf_counter()
    atoms = load_structures(args)
    x = read_environments(args, atoms)
    say(args, f"{len(atoms)} molecules, {sum(map(len, atoms))} atoms")
    net = network_of(args, x)
    get = ("nngp", "ntk") if args.kernel == "both" else args.kernel
    options = {"tile": args.tile, "memory": args.memory}
    if args.estimate:
        print(estimate(net, x, get=get, **options))
        return 0
    if not args.quiet:
        say(args, estimate(net, x, get=get, **options))
    share = args.rank, args.world
    found: Any = gram(net, x, get=get, store=args.store, share=share, progress=not args.quiet, **options)
    stored = next(kernel for kernel in (found if args.kernel == "both" else (found,)) if kernel is not None)
    done, total = int(stored.mask.sum()), len(stored.tiling.tiles)
    print(f"{args.store}: {done} of {total} tiles complete; {time.perf_counter() - started:.0f} s in all")
    return 0


def load_structures(args: argparse.Namespace) -> Sequence[Any]:
    """The molecules that --data, --molecules and --seed ask for."""
    from so3ntk.molecules import load_qm9
    from so3ntk.molecules.datasets.data import read_structures, sample_rows

    if is_qm9(args):
        return load_qm9(args.molecules, seed=args.seed, path=args.data).atoms
    frames = read_structures(args.data)
    rows = sample_rows(len(frames), args.molecules, args.seed, "so3ntk gram")
    return to_angstrom([frames[row] for row in rows], args.length_unit)
