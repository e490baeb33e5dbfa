"""``so3ntk molecules``: learning curves of molecular energies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.cli.predictions import check_reach, predicted_sizes, report_predictions
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
#: Units of energies; "other" is for numbers that are none.
UNITS = ("eV", "meV", "kcal/mol", "kJ/mol", "Hartree", "other")
#: What ase calls energies, and has in eV.
ENERGIES_OF_ASE = ("energy", "free_energy")


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "molecules",
        help="learning curves of molecular energies",
        description="Compare the SO(3) kernel, the MLP kernel and composition alone at growing training sizes, with inducing "
        "atoms and ridges by leave-one-out errors: prints a table, writes a picture and the results as JSON.",
        formatter_class=HelpFormatter,
    )
    add_data_options(parser)
    add = parser.add_argument
    add("--sizes", type=positive, nargs="+", default=[100, 300, 1000], help="training molecules")
    add("--test", type=positive, default=200, help="test molecules")
    add("--seed", type=not_negative, default=0, help="of the draw of molecules")
    add(
        "--draws", type=positive, default=3, help="draws of training and test molecules: the picture shows their spread"
    )
    add("--predict-to", type=positive, metavar="N", help="also predict the errors of the SO(3) kernel up to N molecules from the "
        "largest training set")  # fmt: skip
    add("--inducing", type=positive, help="inducing atoms; default: 2000 (N / 1000)^(1/3) for N molecules, at most all")
    add_network_options(parser)
    add_shared_options(parser, out="so3ntk-results", activation="products")
    parser.set_defaults(run=run)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Which molecules, and which of their numbers."""
    add = parser.add_argument
    add(
        "--data",
        metavar="FILE",
        help="QM9 as npz or CSV folder, or any file ase reads; default: package qm9pack",
    )
    add("--target", default="U0", help="QM9 target, or the key of the energies in a file that ase reads")
    add("--unit", choices=UNITS, help="unit of the target in a file that ase reads ('other': no energy); default: eV for "
        "'energy' and 'free_energy'")  # fmt: skip


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """What decides environments and network, but for what all commands share."""
    add = parser.add_argument
    add("--length-unit", choices=("Angstrom", "Bohr"), help="unit of the positions (and cells) in a file that ase reads; "
        "default: Angstrom")  # fmt: skip
    add("--bandlimit", type=positive, default=4, help="degrees l < L of the environments")
    add("--powers", type=float, nargs="+", help="p of weights 1 / r^p, in place of localised radial functions (shells)")
    add("--length", type=float, help="where all powers weigh the same, in Angstrom; default: 1.6, with --powers alone")
    add(
        "--cutoff",
        type=float,
        help="where neighbours end, in Angstrom; default: 5 for shells, nowhere for --powers, which periodic structures need",
    )
    add("--depth", type=positive, default=1, help="nonlinearities before pooling")
    add(
        "--rtol",
        type=float,
        default=1e-4,
        help="quadrature error that the rotation grid is calibrated to, where it has one",
    )


def run(args: argparse.Namespace) -> int:
    """The main job."""
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    from so3ntk.basics.plots import require_matplotlib

    require_matplotlib("so3ntk molecules")  # now, not after minutes of work
    check_options(args)
    check_reach(args)
    out = output_folder(args.out)
    started, points, curves = time.perf_counter(), [], []
    for draw in range(args.draws):
        data = load_molecules(args, "--sizes", max(args.sizes), args.seed + draw)
        atoms = sum(map(len, data.atoms))
        say(args, f"draw {draw + 1}: {len(data)} molecules, {atoms} atoms, target {data.target} ({data.unit})")
        found, predictions, grid = _curves(args, data, draw)
        points += found
        curves += predictions
    picture = _report(points, data, args, out)
    predicted = None
    if args.predict_to is not None:
        predicted = report_predictions(args, curves, points, units_of(data.unit), out)
    results = {
        "settings": settings(args),
        "unit": data.unit,
        "length_unit": args.length_unit or "Angstrom",
        "quadrature": grid,
        "seconds": time.perf_counter() - started,
        "points": [asdict(point) for point in points],
    }
    if predicted is not None:
        results["predicted"] = predicted.as_dict()
    file = write_json(out / "learning_curve.json", results)
    print(f"{picture}\n{file}\n{results['seconds']:.0f} s in all")
    return 0


def _curves(args: argparse.Namespace, data: Any, draw: int) -> tuple[list[Any], list[Any], str]:
    """The points of one draw, the curve that its largest training set predicts, if that is asked for, and the rotation grid."""
    from so3ntk.learning.inducing.regressor import InducingRegressor
    from so3ntk.molecules.energies import learning_curve, mlp_network

    x = read_environments(args, data.atoms)
    so3 = network_of(args, x)
    options = {"kernel": args.kernel, "inducing": args.inducing, "memory": args.memory, "progress": not args.quiet}
    mlp = mlp_network(args.depth, make_activation(args.activation), bias_of(args))
    models = {name: InducingRegressor(net, **options) for name, net in (("mlp", mlp), ("so3", so3))}
    predictions: list[Any] = []

    def report(point: Any) -> None:
        if point.method != "composition":
            say(
                args,
                f"{LABELS[point.method]}, {point.size} molecules: {point.mae:.4g} {data.unit}, {point.seconds:.0f} s",
            )

    def predict(point: Any, model: Any) -> None:
        if args.predict_to is not None and point.method == "so3" and point.size == max(args.sizes):
            predictions.append(model.learning_curve(predicted_sizes(args)))

    points = learning_curve(models, x, data.atoms, data.targets, args.sizes, args.test, report, draw, predict)
    return points, predictions, str(so3.quadrature)


def network_of(args: argparse.Namespace, x: Any) -> Any:
    """The network for energies, with its rotation grid."""
    from so3ntk.molecules.energies import energy_network

    net = energy_network(args.depth, make_activation(args.activation), bias_of(args), rtol=args.rtol).calibrate(x)
    say(args, f"rotation grid for rtol {args.rtol:g}: {net.quadrature}")
    return net


def bias_of(args: argparse.Namespace) -> float:
    """On the scale of the environments."""
    return 1.3 if args.powers is None else 3.0


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
    from so3ntk.molecules import Shells, environments

    periodic = next((number for number, frame in enumerate(atoms) if frame.pbc.any()), None)
    if args.powers is not None and args.cutoff is None and periodic is not None:
        raise ValueError(
            f"--cutoff: structure {periodic} of those drawn is periodic, so its atoms have neighbours without end: pass "
            "--cutoff 5, or another distance in Angstrom."
        )
    species = tuple(sorted({symbol for molecule in atoms for symbol in molecule.get_chemical_symbols()}))
    settings: dict[str, Any]
    if args.powers is not None:
        length = 1.6 if args.length is None else args.length
        settings = {"powers": tuple(args.powers), "length": length, "cutoff": args.cutoff}
    elif args.length is None:
        settings = {"radial": Shells() if args.cutoff is None else Shells(cutoff=args.cutoff)}
    else:
        raise ValueError(
            "--length: where powers weigh the same is for --powers; shells have none. Leave it out, or pass --powers."
        )
    return environments(atoms, species=species, bandlimit=args.bandlimit, **settings)


def load_molecules(args: argparse.Namespace, option: str, training: int, seed: int) -> Any:
    """Molecules drawn at random: as many to train on as the option (--sizes, --sample) asks for, and ``args.test`` more."""
    from so3ntk.molecules import load_qm9, read_molecules

    needed = training + args.test
    if is_qm9(args):
        return load_qm9(needed, seed=seed, target=args.target, path=args.data)
    data = read_molecules(args.data, target_key=args.target, unit=_unit(args))
    if needed > len(data):
        raise ValueError(f"{option} and --test ask for {needed} molecules, {args.data} holds {len(data)}.")
    to_angstrom(data.atoms, args.length_unit)
    _check_forces(data, args)
    return data[np.random.default_rng(seed).permutation(len(data))[:needed]]


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


def _report(points: Sequence[Any], data: Any, args: argparse.Namespace, out: Path) -> Path:
    """Print the tables, means over draws, and draw the picture in the first unit."""
    from so3ntk.basics.plots import plot_learning_curves

    units = units_of(data.unit)
    errors: dict[tuple[str, int], list[float]] = {}
    for p in points:
        errors.setdefault((LABELS[p.method], p.size), []).append(p.mae)
    for unit, factor in units:
        rows = [(label, size, float(np.mean(values)) * factor) for (label, size), values in errors.items()]
        print(format_table(f"mean absolute error [{unit}]", rows))
    unit, factor = units[0]
    draws = "" if args.draws == 1 else f", {args.draws} draws"
    return replace_file(out / "learning_curve.png", lambda path: plot_learning_curves(
        [(p.method, p.size, p.mae * factor) for p in points], path, labels=LABELS, xlabel="training molecules",
        ylabel=f"mean absolute error of {data.target} [{unit}]", title=f"{args.test} test molecules{draws}"))  # fmt: skip


def units_of(unit: str) -> list[tuple[str, float]]:
    """The units of the tables, and what numbers in the data's unit are multiplied by: energies in two that are usual."""
    from so3ntk.molecules.forces.consistency import ENERGIES

    if unit not in ENERGIES:
        return [(unit, 1.0)]
    own = [unit] * (unit not in ("eV", "meV", "kcal/mol"))
    return [(other, ENERGIES[unit] / ENERGIES[other]) for other in (*own, "kcal/mol", "meV")]
