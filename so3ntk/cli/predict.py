"""``so3ntk predict``: energies and forces of frames by a saved potential."""

from __future__ import annotations

import argparse
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
        description="Predict energies and forces of all frames of a file and write them as extended xyz in eV and eV/Angstrom, as "
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
    from so3ntk.basics.progress import show_progress
    from so3ntk.molecules.forces.regressor import BLOCK

    path = writable_file(args.out, "--out")
    potential = load_potential(args.model)
    frames = references(args, potential)
    say(args, frames.counts())
    parts = []
    with show_progress(len(frames), " frames", "predictions", not args.quiet) as bar:
        for start in range(0, len(frames), BLOCK):
            some = frames.atoms[start : start + BLOCK]
            parts.append(potential.model.predict(some, return_std=args.std))
            bar.update(len(some))
    found = [as_ase(atoms, row, part, potential) for part, start in zip(parts, range(0, len(frames), BLOCK), strict=True)
             for row, atoms in enumerate(frames.atoms[start : start + BLOCK])]  # fmt: skip
    replace_file(path, lambda file: write_frames(file, found))
    print(f"{path}: {len(frames)} frames, {unit_of(potential)}")
    energies, forces = np.concatenate([p.energies for p in parts]), [f for p in parts for f in p.forces]
    if np.isfinite(frames.energies).any():
        errors = errors_of(frames, energies, forces)
        print(format_errors(f"errors on {len(frames)} frames", errors, potential.unit, target_of(frames)))
    return 0


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
    forces = [None if one is None else factor * one for one in frames.forces]
    return type(frames)(frames.atoms, factor * frames.energies, forces, frames.stresses, potential.unit,
                        frames.isolated, frames.sources, frames.keys)  # fmt: skip


def unit_of(potential: Potential) -> str:
    """What the written numbers are in."""
    return "in eV and eV/Angstrom" if _scale(potential) else f"in {potential.unit}"


def as_ase(atoms: Atoms, row: int, part: Any, potential: Potential) -> Atoms:
    """A frame with its prediction, where ase has energies and forces; what is no energy under its name."""
    from ase.calculators.singlepoint import SinglePointCalculator

    from so3ntk.molecules.datasets.labels import ENERGIES, FORCES

    scale, found = _scale(potential), atoms.copy()
    for held, names in ((found.info, ENERGIES), (found.arrays, FORCES)):
        for name in [name for name in held if name.lower() in (names[0], "free_energy")]:
            del held[name]  # of the reference, which would go before the prediction
    energy, deviation = float(part.energies[row]), None if part.energy_std is None else float(part.energy_std[row])
    if not scale:
        target = potential.about.get("keys", {}).get("energy", "prediction")
        found.info |= {target: energy} | ({} if deviation is None else {f"{target}_std": deviation})
        return found
    found.calc = SinglePointCalculator(found, energy=scale * energy, forces=scale * part.forces[row])
    if deviation is not None:
        found.info["energy_std"], found.arrays["force_std"] = scale * deviation, scale * part.force_std[row]
    return found


def write_frames(path: str, frames: list[Atoms]) -> None:
    """As extended xyz."""
    from ase.io import write

    write(path, frames, format="extxyz")


def _scale(potential: Potential) -> float | None:
    """The model's unit in eV, None for what is no energy."""
    from so3ntk.molecules.forces.consistency import ENERGIES

    return ENERGIES.get(potential.unit)
