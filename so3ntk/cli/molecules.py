"""``so3ntk molecules``: learning curves of molecular energies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.cli.results import (
    HelpFormatter,
    add_shared_options,
    format_table,
    make_activation,
    output_folder,
    positive,
    replace_file,
    settings,
    write_json,
)

LABELS = {"so3": "SO(3) kernel", "mlp": "MLP kernel", "composition": "composition alone"}


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "molecules",
        help="learning curves of molecular energies",
        description="Compare the SO(3) kernel, the MLP kernel and composition alone at growing training sizes: prints "
        "a table, writes a picture and the results as JSON.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="FILE",
        help="QM9 as npz or CSV folder, or any file ase reads; default: package qm9pack",
    )
    add("--target", default="U0", help="QM9 target, or the key of the energies in a file that ase reads")
    add("--sizes", type=positive, nargs="+", default=[50, 100, 200], help="training molecules")
    add("--test", type=positive, default=150, help="test molecules")
    add("--seed", type=int, default=0, help="of the draw of molecules")
    add_network_options(parser)
    add_shared_options(parser, out="so3ntk-results")
    parser.set_defaults(run=run)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """What decides environments and network, but for what all commands share."""
    add = parser.add_argument
    add("--bandlimit", type=positive, default=4, help="degrees l < L of the environments")
    add("--powers", type=float, nargs="+", default=[1.0, 2.0, 4.0, 6.0], help="p of the weights 1 / r^p")
    add("--length", type=float, default=1.6, help="where all powers weigh the same, in Angstrom")
    add("--depth", type=positive, default=1, help="nonlinearities before pooling")
    add("--rtol", type=float, default=1e-5, help="quadrature error that the rotation grid is calibrated to")


def run(args: argparse.Namespace) -> int:
    """The main job."""
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    from so3ntk.gram import gram
    from so3ntk.molecules.energies import energy_network, learning_curve, mlp_network
    from so3ntk.plots import require_matplotlib

    require_matplotlib("so3ntk molecules")  # now, not after minutes of work
    out = output_folder(args.out)
    started = time.perf_counter()
    data = _load(args)
    print(f"{len(data)} molecules, {sum(map(len, data.atoms))} atoms, target {data.target} ({data.unit})")
    x = read_environments(args, data.atoms)
    activation = make_activation(args.activation)
    so3 = energy_network(args.depth, activation, rtol=args.rtol).calibrate(x)
    print(f"rotation grid for rtol {args.rtol:g}: {so3.quadrature}")
    kernels, seconds = {}, {}
    for name, net in (("mlp", mlp_network(args.depth, activation)), ("so3", so3)):
        begun = time.perf_counter()
        print(LABELS[name], flush=True)
        kernels[name] = gram(net, x, get=args.kernel, memory=args.memory)
        seconds[name] = time.perf_counter() - begun
    points = learning_curve(kernels, data.atoms, data.targets, args.sizes, args.test)
    picture = _report(points, data, args.test, out)
    results = {
        "settings": settings(args),
        "unit": data.unit,
        "quadrature": str(so3.quadrature),
        "gram_seconds": seconds,
        "seconds": time.perf_counter() - started,
        "points": [asdict(point) for point in points],
    }
    file = write_json(out / "learning_curve.json", results)
    print(f"{picture}\n{file}\n{results['seconds']:.0f} s in all")
    return 0


def read_environments(args: argparse.Namespace, atoms: Sequence[Any]) -> Any:
    """The environments of molecules that the options ask for."""
    from so3ntk.molecules import environments

    species = tuple(sorted({symbol for molecule in atoms for symbol in molecule.get_chemical_symbols()}))
    powers, length = tuple(args.powers), args.length
    return environments(atoms, species=species, powers=powers, bandlimit=args.bandlimit, length=length)


def _load(args: argparse.Namespace) -> Any:
    from so3ntk.molecules import load_qm9, read_molecules

    needed = max(args.sizes) + args.test
    path = args.data
    if path is None or Path(path).is_dir() or Path(path).suffix == ".npz":
        return load_qm9(needed, seed=args.seed, target=args.target, path=path)
    data = read_molecules(path, target_key=args.target)
    if needed > len(data):
        raise ValueError(f"--sizes and --test ask for {needed} molecules, {path} holds {len(data)}.")
    return data[np.random.default_rng(args.seed).permutation(len(data))[:needed]]


def _report(points: Sequence[Any], data: Any, test: int, out: Path) -> Path:
    """Print the tables, draw the picture in the first unit."""
    from so3ntk.plots import plot_learning_curves

    units = _units(data.unit)
    for unit, factor in units:
        rows = [(LABELS[p.method], p.size, p.mae * factor) for p in points]
        print(format_table(f"mean absolute error [{unit}]", rows))
    unit, factor = units[0]
    return replace_file(out / "learning_curve.png", lambda path: plot_learning_curves(
        [(p.method, p.size, p.mae * factor) for p in points], path, labels=LABELS, xlabel="training molecules",
        ylabel=f"mean absolute error of {data.target} [{unit}]",
        title=f"{len(data)} molecules, {test} of them for testing"))  # fmt: skip


def _units(unit: str) -> list[tuple[str, float]]:
    if unit != "eV":
        return [(unit, 1.0)]
    from ase.units import kcal, mol

    return [("kcal/mol", mol / kcal), ("meV", 1000.0)]
