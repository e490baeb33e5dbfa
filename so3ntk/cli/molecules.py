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

LABELS = {"so3": "SO(3) kernel", "mlp": "MLP kernel", "composition": "composition alone"}
#: Seconds beyond which a run says beforehand what it will take.
LONG = 30
#: Units of energies; "other" is for numbers that are none.
UNITS = ("eV", "meV", "kcal/mol", "kJ/mol", "Hartree", "other")
#: What ase calls energies, and has in eV.
ENERGIES_OF_ASE = ("energy", "free_energy")


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
    add("--unit", choices=UNITS, help="unit of the target in a file that ase reads ('other': no energy); default: eV for "
        "'energy' and 'free_energy'")  # fmt: skip
    add("--sizes", type=positive, nargs="+", default=[50, 100, 200], help="training molecules")
    add("--test", type=positive, default=150, help="test molecules")
    add("--seed", type=not_negative, default=0, help="of the draw of molecules")
    add_network_options(parser)
    add_shared_options(parser, out="so3ntk-results")
    parser.set_defaults(run=run)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """What decides environments and network, but for what all commands share."""
    add = parser.add_argument
    add("--length-unit", choices=("Angstrom", "Bohr"), help="unit of the positions (and cells) in a file that ase reads; "
        "default: Angstrom")  # fmt: skip
    add("--bandlimit", type=positive, default=4, help="degrees l < L of the environments")
    add("--powers", type=float, nargs="+", default=[1.0, 2.0, 4.0, 6.0], help="p of the weights 1 / r^p")
    add("--length", type=float, default=1.6, help="where all powers weigh the same, in Angstrom")
    add(
        "--cutoff",
        type=float,
        help="where neighbours end, in Angstrom: needed for periodic structures; default: nowhere",
    )
    add("--depth", type=positive, default=1, help="nonlinearities before pooling")
    add("--rtol", type=float, default=1e-5, help="quadrature error that the rotation grid is calibrated to")


def run(args: argparse.Namespace) -> int:
    """The main job."""
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    from so3ntk.basics.plots import require_matplotlib
    from so3ntk.matrices.estimate import estimate
    from so3ntk.matrices.gram import gram
    from so3ntk.molecules.energies import energy_network, learning_curve, mlp_network

    require_matplotlib("so3ntk molecules")  # now, not after minutes of work
    check_options(args)
    out = output_folder(args.out)
    started = time.perf_counter()
    data = _load(args)
    say(args, f"{len(data)} molecules, {sum(map(len, data.atoms))} atoms, target {data.target} ({data.unit})")
    x = read_environments(args, data.atoms)
    activation = make_activation(args.activation)
    so3 = energy_network(args.depth, activation, rtol=args.rtol).calibrate(x)
    say(args, f"rotation grid for rtol {args.rtol:g}: {so3.quadrature}")
    kernels, seconds = {}, {}
    for name, net in (("mlp", mlp_network(args.depth, activation)), ("so3", so3)):
        begun = time.perf_counter()
        say(args, LABELS[name])
        if not args.quiet and name == "so3":  # its program is the matrix's: half a second
            guess = estimate(net, x, get=args.kernel, memory=args.memory, seconds=0.3)
            if guess.seconds > LONG:
                say(args, guess)
        kernels[name] = gram(net, x, get=args.kernel, memory=args.memory, progress=not args.quiet)
        seconds[name] = time.perf_counter() - begun
    points = learning_curve(kernels, data.atoms, data.targets, args.sizes, args.test)
    picture = _report(points, data, args.test, out)
    results = {
        "settings": settings(args),
        "unit": data.unit,
        "length_unit": args.length_unit or "Angstrom",
        "quadrature": str(so3.quadrature),
        "gram_seconds": seconds,
        "seconds": time.perf_counter() - started,
        "points": [asdict(point) for point in points],
    }
    file = write_json(out / "learning_curve.json", results)
    print(f"{picture}\n{file}\n{results['seconds']:.0f} s in all")
    return 0


def is_qm9(args: argparse.Namespace) -> bool:
    """Whether the molecules are QM9's, whose units are known: ValueError for options that say them."""
    path = args.data
    if not (path is None or Path(path).is_dir() or Path(path).suffix == ".npz"):
        return False
    for name in ("unit", "length_unit"):
        if getattr(args, name, None) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is for files that ase reads; the units of QM9 are known (energies in eV, "
                "positions in Angstrom). Leave it out, or give such a file as --data."
            )
    return True


def to_angstrom(frames: Sequence[Any], length_unit: str | None) -> Sequence[Any]:
    """The frames of a file, with positions and cells in Angstrom; warns of distances that say otherwise."""
    from so3ntk.molecules.forces.consistency import BOHR, check_distances

    if length_unit == "Bohr":
        for frame in frames:
            frame.set_cell(np.asarray(frame.cell) * BOHR)
            frame.positions *= BOHR
    check_distances(frames, "--data")
    return frames


def read_environments(args: argparse.Namespace, atoms: Sequence[Any]) -> Any:
    """The environments of molecules that the options ask for."""
    from so3ntk.molecules import environments

    periodic = next((number for number, frame in enumerate(atoms) if frame.pbc.any()), None)
    if args.cutoff is None and periodic is not None:
        raise ValueError(
            f"--cutoff: structure {periodic} of those drawn is periodic, so its atoms have neighbours without end: pass "
            "--cutoff 5, or another distance in Angstrom."
        )
    species = tuple(sorted({symbol for molecule in atoms for symbol in molecule.get_chemical_symbols()}))
    settings = {"powers": tuple(args.powers), "length": args.length, "cutoff": args.cutoff}
    return environments(atoms, species=species, bandlimit=args.bandlimit, **settings)


def _load(args: argparse.Namespace) -> Any:
    from so3ntk.molecules import load_qm9, read_molecules

    needed = max(args.sizes) + args.test
    if is_qm9(args):
        return load_qm9(needed, seed=args.seed, target=args.target, path=args.data)
    data = read_molecules(args.data, target_key=args.target, unit=_unit(args))
    if needed > len(data):
        raise ValueError(f"--sizes and --test ask for {needed} molecules, {args.data} holds {len(data)}.")
    to_angstrom(data.atoms, args.length_unit)
    _check_forces(data, args)
    return data[np.random.default_rng(args.seed).permutation(len(data))[:needed]]


def _unit(args: argparse.Namespace) -> str:
    """The unit of the target in a file: as said, or ase's where the target is ase's."""
    if args.unit is None and args.target not in ENERGIES_OF_ASE:
        raise ValueError(
            f"--unit: the unit of {args.target!r} in {args.data} is not known. Pass --unit {', '.join(UNITS[:-1])}, or "
            f"--unit {UNITS[-1]} for what is no energy."
        )
    return args.unit or "eV"


def _check_forces(data: Any, args: argparse.Namespace) -> None:
    """Warn where the file has forces, and these say that the energies are in another unit, or the lengths.

    Forces are in the unit of the energies or in ase's, eV.
    """
    from so3ntk.molecules.forces.consistency import BOHR, ENERGIES, check_forces, compare_forces

    found = [({} if frame.calc is None else frame.calc.results) | frame.arrays for frame in data.atoms]
    if data.unit not in ENERGIES or any(np.shape(f.get("forces")) != (len(f["numbers"]), 3) for f in found):
        return
    per_angstrom = [f["forces"] / (BOHR if args.length_unit == "Bohr" else 1.0) for f in found]
    if compare_forces(data.atoms, data.targets, per_angstrom).contradicts:
        where = "--data" if data.unit == "eV" else f"--data, energies made eV from --unit {data.unit}"
        check_forces(data.atoms, data.targets * ENERGIES[data.unit], per_angstrom, where)


def _report(points: Sequence[Any], data: Any, test: int, out: Path) -> Path:
    """Print the tables, draw the picture in the first unit."""
    from so3ntk.basics.plots import plot_learning_curves

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
    """The units of the tables, and what numbers in the data's unit are multiplied by: energies in two that are usual."""
    from so3ntk.molecules.forces.consistency import ENERGIES

    if unit not in ENERGIES:
        return [(unit, 1.0)]
    own = [unit] * (unit not in ("eV", "meV", "kcal/mol"))
    return [(other, ENERGIES[unit] / ENERGIES[other]) for other in (*own, "kcal/mol", "meV")]
