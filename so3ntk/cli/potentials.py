"""What the commands of potentials share: options of the files that are read, models with their unit, tables of errors."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from so3ntk.cli.intensive import Intensive

if TYPE_CHECKING:
    from so3ntk.molecules import EnergyForceRegressor, Frames

#: Energies and what they are per.
PER = {"energy": "", "energy per atom": "", "force component": "/Angstrom", "stress component": "/Angstrom^3"}


def add_reading_options(parser: argparse.ArgumentParser, unit: str) -> None:
    """What says where numbers are in files, and in which units; ``unit``: the help of that option."""
    add, boolean = parser.add_argument, argparse.BooleanOptionalAction
    add("--target", metavar="KEY", help="name of the energies in the files, or of another number; default: those that programs "
        "use, such as energy, REF_energy, dft_energy")  # fmt: skip
    add("--forces", action=boolean, help="read forces; default: those that there are")
    add("--forces-key", metavar="KEY", help="their name; default: forces, force, REF_forces, dft_forces, ...")
    add("--stress", action=boolean, help="read stresses or virials; default: those that there are")
    add("--stress-key", metavar="KEY", help="their name; default: stress, virial, virials, REF_stress, ...")
    add("--unit", help=unit)
    add("--length-unit", choices=("Angstrom", "Bohr"), default="Angstrom",
        help="of positions, and what forces and stresses are per, in files that ase reads")  # fmt: skip
    add("--part", metavar="NAME", help="part of an npz file that holds several, as train")


def read(args: argparse.Namespace, paths: Iterable[str], unit: str, labelled: bool = True) -> Frames:
    """The frames of files as the options say; ValueError, by the options' names, for what is not there.

    Forces and stresses of what is no energy are not looked for, unless they are asked for.
    """
    from so3ntk.molecules.datasets.labels import Arguments
    from so3ntk.molecules.datasets.reading import collect
    from so3ntk.molecules.forces.consistency import ENERGIES

    if unit not in ENERGIES or getattr(args, "intensive", False):
        args.forces, args.stress = (
            getattr(args, name) or (getattr(args, f"{name}_key") is not None and None) for name in ("forces", "stress")
        )
    keys = (args.target, _key(args, "forces"), _key(args, "stress"))
    named = Arguments("--target", "--forces-key", "--stress-key", "--part", "--unit")
    frames = collect(paths, keys, unit, args.length_unit, args.part, "DATA", named, labelled)
    for name, values in (("forces", frames.forces), ("stress", frames.stresses)):
        if getattr(args, name) and all(one is None for one in values):
            raise ValueError(f"--{name}: the files hold none of the names that are known. Pass theirs as --{name}-key.")
    return frames


def _key(args: argparse.Namespace, name: str) -> Any:
    """The key, None for the known names, False for none."""
    key = getattr(args, f"{name}_key")
    if getattr(args, name) is False and key is not None:
        raise ValueError(f"--no-{name} and --{name}-key {key} contradict each other. Leave one of them out.")
    return False if getattr(args, name) is False else key


class Potential(NamedTuple):
    """A fitted regressor, its unit, and what else its file says."""

    model: EnergyForceRegressor | Intensive
    unit: str
    about: Mapping[str, Any]

    @property
    def size(self) -> float | None:
        """The unit in eV; None for what is no energy of a structure."""
        from so3ntk.molecules.forces.consistency import ENERGIES

        return None if isinstance(self.model, Intensive) else ENERGIES.get(self.unit)


def load_potential(path: str) -> Potential:
    """The model that ``so3ntk fit`` saved. ValueError for other models, and files that do not say their unit."""
    import jax

    from so3ntk.learning.inducing.regressor import InducingRegressor
    from so3ntk.molecules import EnergyForceRegressor
    from so3ntk.saving import load
    from so3ntk.saving.models import read_document

    jax.config.update("jax_enable_x64", read_document(path)[0].get("double_precision") is True)
    loaded = load(path)
    model = Intensive.of(loaded) if isinstance(loaded, InducingRegressor) else loaded
    if not isinstance(model, EnergyForceRegressor | Intensive):
        raise ValueError(
            f"{path} holds a {type(loaded).__name__}; expected an EnergyForceRegressor, as so3ntk fit saves."
        )
    loaded.progress = False  # a bar for every step of dynamics
    about = getattr(loaded, "about_", {})
    if not isinstance(about.get("unit"), str):
        raise ValueError(
            f"{path} does not say in which unit its energies are. Save the model with it: so3ntk.save(model, {str(path)!r}, "
            'about={"unit": "eV"}).'
        )
    return Potential(model, about["unit"], about)


def for_dynamics(potential: Potential, path: str) -> tuple[EnergyForceRegressor, float]:
    """The regressor and its unit in eV; ValueError for models of what is no energy."""
    if isinstance(potential.model, Intensive) or potential.size is None:
        kind = "numbers that do not grow with the structure" if isinstance(potential.model, Intensive) else "numbers"
        raise ValueError(
            f"{path} is a model of {kind} in {potential.unit}, which have no forces: it is none for dynamics."
        )
    return potential.model, potential.size


def target_of(frames: Frames) -> str:
    """What is predicted: an energy, or a number by its name in the files."""
    from so3ntk.molecules.datasets.labels import ENERGIES

    key = frames.keys.get("energy", "energy")
    return "energy" if key.lower() in ENERGIES else key


Errors = dict[str, dict[str, float]]


def errors_of(
    frames: Frames, energies: np.ndarray, forces: Sequence[Any], stresses: Sequence[Any] | None = None
) -> Errors:
    """Mean absolute and root mean square errors of what the frames have, by the names of ``PER``."""
    known = np.isfinite(frames.energies)
    sizes = np.array([len(atoms) for atoms in frames.atoms])
    off = (energies - frames.energies)[known]
    found = {"energy": off, "energy per atom": off / sizes[known]}
    for name, true, own in (
        ("force component", frames.forces, forces),
        ("stress component", frames.stresses, stresses or [None] * len(frames)),
    ):
        pairs = [(a, b) for a, b in zip(true, own, strict=True) if a is not None and b is not None]
        found[name] = np.concatenate([(b - a).ravel() for a, b in pairs] or [np.zeros(0)])
    return {
        name: {"mae": float(np.abs(e).mean()), "rmse": float(np.sqrt((e**2).mean())), "count": len(e)}
        for name, e in found.items()
        if len(e)
    }


def format_errors(
    title: str, errors: Errors, unit: str, target: str = "energy", others: Mapping[str, Errors] | None = None
) -> str:
    """One line for each quantity; target: what it is called that is no energy; others: mean absolute errors to be shown beside, by the name of their column."""
    others = {} if others is None else others
    lines = [f"{title:<40}{'MAE':>10}{'RMSE':>10}{'count':>8}" + "".join(f"{name:>22}" for name in others)]
    for name, e in errors.items():
        label = f"{name.replace('energy', target)} [{unit}{PER[name]}]"
        beside = "".join(f"{other[name]['mae']:>22.4g}" for other in others.values() if name in other)
        lines.append(f"{label:<40}{e['mae']:>10.4g}{e['rmse']:>10.4g}{e['count']:>8.0f}{beside}")
    return "\n".join(lines)


def by_file(frames: Frames, train: np.ndarray, test: np.ndarray) -> list[dict[str, str]]:
    """For each file which of its frames are trained on and which are held out, as "0-4,6"."""
    names = dict.fromkeys(file for file, _ in frames.sources)
    return [
        {
            "file": Path(name).name,
            **{
                part: ranges(sorted(frames.sources[row][1] for row in rows if frames.sources[row][0] == name))
                for part, rows in (("train", train), ("test", test))
            },
        }
        for name in names
    ]


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as text, "0-4,6"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
