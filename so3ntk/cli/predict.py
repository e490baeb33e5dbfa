"""``so3ntk predict``: energies and forces of frames by a saved potential."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.files import writable_file
from so3ntk.cli.potentials import (
    Potential,
    add_reading_options,
    errors_of,
    format_errors,
    load_potential,
    read,
    target_of,
)
from so3ntk.cli.results import HelpFormatter, add_message_options, replace_file, say

if TYPE_CHECKING:
    from ase import Atoms

    from so3ntk.molecules import Frames


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "predict",
        help="energies and forces of frames by a saved potential",
        description="Predict energies, forces and, of periodic frames, stresses of a file and write them as extended xyz in eV and Angstrom, as "
        "ase has them; prints a table of errors, in the model's unit, where the file has reference values.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="the file that so3ntk fit saved")
    add("data", metavar="FILE", help="frames, in any format that so3ntk fit reads")
    add("--out", required=True, metavar="FILE", help="the predictions, such as predictions.extxyz")
    add(
        "--std",
        action="store_true",
        help="also standard deviations, as energy_std and force_std, which cost a multiple",
    )
    add_reading_options(parser, "of the reference values in the file; default: the model's")
    add_message_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, predict, write, and compare."""
    from so3ntk.molecules.datasets.frames import is_isolated

    path = writable_file(args.out, "--out")
    potential = load_potential(args.model)
    frames = references(args, potential)
    say(args, frames.counts())
    found = predict(args, frames.atoms, potential.model)
    written = [as_ase(atoms, row, found, potential) for row, atoms in enumerate(frames.atoms)]
    replace_file(path, lambda file: write_frames(file, written))
    print(f"{path}: {len(frames)} frames, in {'eV and Angstrom' if potential.size else potential.unit}")
    compared = np.array([not is_isolated(atoms) for atoms in frames.atoms])  # as when a model is fitted
    known = frames[compared]
    errors = errors_of(known, *(_some(values, compared) for values in (found.energies, found.forces, found.stresses)))
    if errors:
        print(format_errors("errors", errors, potential.unit, target_of(frames)))
    return 0


def predict(args: argparse.Namespace, atoms: list[Atoms], model: Any) -> Any:
    """The model's prediction for all frames, a block at a time."""
    from so3ntk.basics.progress import show_progress
    from so3ntk.molecules.forces.regressor import BLOCK

    parts = []
    with show_progress(len(atoms), " frames", "predictions", not args.quiet) as bar:
        for start in range(0, len(atoms), BLOCK):
            parts.append(model.predict(atoms[start : start + BLOCK], return_std=args.std))
            bar.update(len(atoms[start : start + BLOCK]))
    return type(parts[0])(*map(_joined, zip(*parts, strict=True)))


def _joined(parts: tuple[Any, ...]) -> Any:
    """Arrays, lists, or nothing, of all blocks."""
    if parts[0] is None:
        return None
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [one for part in parts for one in part]


def _some(values: Any, rows: np.ndarray) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else [v for v, row in zip(values, rows, strict=True) if row]


def references(args: argparse.Namespace, potential: Potential) -> Frames:
    """The frames, with what they have in the model's unit. Names are the options', those the model was fitted to, or known ones."""
    from so3ntk.molecules.datasets.data import read_structures
    from so3ntk.molecules.datasets.labels import held_by
    from so3ntk.molecules.forces.consistency import ENERGIES

    if Path(args.data).suffix.lower() != ".npz":
        held = {name for frame in read_structures(args.data, "FILE") for name in held_by(frame)}
        for name, option in (("energy", "target"), ("forces", "forces_key"), ("stress", "stress_key")):
            key = potential.about.get("keys", {}).get(name)
            if getattr(args, option) is None and key in held and getattr(args, name, None) is not False:
                setattr(args, option, key)
    unit = potential.unit if args.unit is None else args.unit
    frames = read(args, [args.data], unit, labelled=False)
    if unit == potential.unit:
        return frames
    if unit not in ENERGIES or potential.unit not in ENERGIES:
        raise ValueError(f"--unit: {unit} is not turned into {potential.unit}, which the model predicts.")
    factor = ENERGIES[unit] / ENERGIES[potential.unit]
    forces, stresses = (
        [None if one is None else factor * one for one in values] for values in (frames.forces, frames.stresses)
    )
    return replace(frames, energies=factor * frames.energies, forces=forces, stresses=stresses, unit=potential.unit)


def as_ase(atoms: Atoms, row: int, found: Any, potential: Potential) -> Atoms:
    """A frame with its prediction, where ase has energies and forces; what is no energy under its name."""
    from ase.calculators.singlepoint import SinglePointCalculator

    from so3ntk.molecules.strains import voigt

    size, copy = potential.size, atoms.copy()
    for held in (copy.info, copy.arrays):
        for name in [name for name in held if name.lower() in ("energy", "free_energy", "forces", "stress")]:
            del held[name]  # of the reference, which would go before the prediction
    energy, deviations = float(found.energies[row]), found.energy_std
    if size is None:
        target = potential.about.get("keys", {}).get("energy", "prediction")
        copy.info |= {target: energy} | ({} if deviations is None else {f"{target}_std": float(deviations[row])})
        return copy
    stress = found.stresses[row]
    results = {} if stress is None else {"stress": size * voigt(stress)}
    copy.calc = SinglePointCalculator(copy, energy=size * energy, forces=size * found.forces[row], **results)
    if deviations is not None:
        copy.info["energy_std"], copy.arrays["force_std"] = size * float(deviations[row]), size * found.force_std[row]
    return copy


def write_frames(path: str, frames: list[Atoms]) -> None:
    """As extended xyz."""
    from ase.io import write

    write(path, frames, format="extxyz")
