"""``so3ntk fit``: from files of frames to a saved potential."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.files import writable_file
from so3ntk.cli.potentials import add_reading_options, by_file, errors_of, format_errors, read, target_of
from so3ntk.cli.results import (
    HelpFormatter,
    add_message_options,
    not_negative,
    output_folder,
    replace_file,
    say,
    settings,
    write_json,
)

if TYPE_CHECKING:
    from so3ntk.molecules import EnergyForceRegressor, Frames

#: Shares of the training frames in the learning curve, and the fewest of a point.
SHARES, FEWEST = (8, 4, 2, 1), 5
METHODS = {"model": "kernel", "zero": "baseline, forces zero"}


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "fit",
        help="a potential from files of energies and forces",
        description="Fit energies, and forces where there are any, of the frames in files, and save the model. With --test "
        "frames are held out: prints a table of errors on them, draws parity and learning curves, writes the results as JSON. "
        "Then: so3ntk predict, so3ntk md, so3ntk info, or so3ntk.load in Python.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add("data", metavar="DATA", nargs="+", help="files that ase reads (extended xyz, traj, db, ...), QM9's xyz, or npz files of "
        "rMD17, MD17 or packed molecules")  # fmt: skip
    add("--save", required=True, metavar="FILE", help="the model's file, such as model.npz")
    add_reading_options(
        parser,
        "of the energies; eV for those of a known name by default. What npz files have in kcal/mol is converted to it",
    )
    add("--cutoff", type=float, help="where neighbours end, in Angstrom; default: 5")
    add("--baseline", choices=("composition", "isolated", "none"), help="energies of elements: by least squares, or of the "
        "isolated atoms in the data; default: isolated where all elements have one, else composition")  # fmt: skip
    add("--test", type=_share, default=0, help="frames to hold out, a number or a share below 1")
    add("--seed", type=not_negative, default=0, help="of the draw of these")
    add("--out", default="so3ntk-results", help="folder of the results")
    add_message_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, fit, save, and judge."""
    path, out = writable_file(args.save, "--save"), output_folder(args.out)
    if args.test:
        from so3ntk.basics.plots import require_matplotlib

        require_matplotlib("so3ntk fit")  # now, not after minutes of work
    started, unit = time.perf_counter(), unit_of(args)
    frames = read(args, args.data, unit)
    say(args, frames.counts())
    train, test = split(frames, args.test, args.seed)
    model = model_of(args, frames)
    say(args, f"{len(train)} frames to train on, {len(test)} held out; baseline: {baseline_of(args, frames)}")
    begun = time.perf_counter()
    fit(model, frames[train])
    seconds = time.perf_counter() - begun
    about = {
        "unit": unit, "length_unit": "Angstrom", "keys": dict(frames.keys), "files": by_file(frames, train, test),
        "seed": args.seed, "baseline": baseline_of(args, frames), "counts": frames[train].counts(),
    }  # fmt: skip
    points = [judge(model, frames, train, test, seconds)] if len(test) else []
    if points:
        about["errors"] = points[0]["errors"]
    save(model, path, about)
    print(f"{path}: {len(train)} frames in {seconds:.0f} s")
    pictures: list[Path] = []
    if len(test):
        title, beside = f"{len(test)} frames held out", {METHODS["zero"]: points[0]["zero"]}
        print(format_errors(title, points[0]["errors"], unit, target_of(frames), beside))
        points = [*curve(args, model, frames, train, test), *points]
        pictures = draw(frames[test], model, points, out)
    noises = {name: getattr(model, name, None) for name in ("energy_noise_", "force_noise_", "amplitude_")}
    results = {"settings": settings(args), **about, "noises": noises, "points": points,
               "seconds": time.perf_counter() - started}  # fmt: skip
    print("\n".join(map(str, [*pictures, write_json(out / "fit.json", results)])))
    return 0


def unit_of(args: argparse.Namespace) -> str:
    """As said, or eV where the target is an energy by its name; ValueError for a typo, and where it cannot be known."""
    from so3ntk.molecules.datasets.labels import ENERGIES
    from so3ntk.molecules.forces.consistency import ENERGIES as UNITS

    energy = args.target is None or args.target.lower() in ENERGIES
    if args.unit is None and not energy:
        raise ValueError(
            f"--unit: the unit of {args.target!r} is not known. Pass --unit {', '.join(UNITS)}, or the name of another for "
            "what is no energy."
        )
    if energy and args.unit is not None and args.unit not in UNITS:
        raise ValueError(f"--unit: {args.unit!r} is no unit of energy. Pass one of {', '.join(UNITS)}.")
    return args.unit or "eV"


def split(frames: Frames, test: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, the first of which hold all elements, and rows held out. Only frames with an energy are trained on."""
    from so3ntk.molecules.energies import covering_order

    order = np.random.default_rng(seed).permutation(len(frames))
    count = round(test * len(frames)) if test < 1 else int(test)
    order = order[covering_order([frames.atoms[row] for row in order], len(order))]
    train, held_out = order[: len(order) - count], order[len(order) - count :]
    train = train[np.isfinite(frames.energies[train])]
    if count >= len(frames) or not len(train):
        raise ValueError(f"--test: of {len(frames)} frames {count} are held out, and none is left to train on.")
    return train, held_out


def baseline_of(args: argparse.Namespace, frames: Frames) -> str:
    """The kind of baseline; ValueError where isolated atoms are missing."""
    elements = {symbol for atoms in frames.atoms for symbol in atoms.get_chemical_symbols()}
    missing = sorted(elements - set(frames.isolated))
    if args.baseline == "isolated" and missing:
        raise ValueError(
            f"--baseline isolated: the files hold no isolated atom of {', '.join(missing)}, a frame of one atom with its "
            "energy. Add them, or pass --baseline composition."
        )
    return args.baseline or ("composition" if missing else "isolated")


def model_of(args: argparse.Namespace, frames: Frames) -> EnergyForceRegressor:
    """The regressor that the options ask for."""
    from so3ntk.molecules import EnergyForceRegressor
    from so3ntk.molecules.forces.regressor import FORCE_ENVIRONMENTS, elements_of

    kind = baseline_of(args, frames)
    baseline: Any = dict(frames.isolated) if kind == "isolated" else kind == "composition"
    environment = None
    if args.cutoff is not None:
        radial = replace(FORCE_ENVIRONMENTS["radial"], cutoff=args.cutoff)
        environment = {**FORCE_ENVIRONMENTS, "radial": radial, "species": elements_of(frames.atoms)}
    return EnergyForceRegressor(environment=environment, baseline=baseline, progress=not args.quiet)


def fit(model: EnergyForceRegressor, frames: Frames) -> EnergyForceRegressor:
    """To energies, and to the forces that there are."""
    forces = None if all(one is None for one in frames.forces) else frames.forces
    return model.fit(frames.atoms, frames.energies, forces)


def judge(model: Any, frames: Frames, train: np.ndarray, test: np.ndarray, seconds: float) -> dict[str, Any]:
    """A point of the learning curve: errors on the frames held out, of the model and of its baseline alone."""
    from so3ntk.molecules import CompositionBaseline

    held_out, learned = frames[test], frames[train]
    found = model.predict(held_out.atoms)
    zero = CompositionBaseline().fit(learned.atoms, learned.energies).predict(held_out.atoms)
    none = [np.zeros((len(atoms), 3)) for atoms in held_out.atoms]
    return {
        "size": len(train),
        "errors": errors_of(held_out, found.energies, found.forces),
        "zero": errors_of(held_out, zero, none),
        "seconds": seconds,
    }


def curve(
    args: argparse.Namespace, model: Any, frames: Frames, train: np.ndarray, test: np.ndarray
) -> list[dict[str, Any]]:
    """The points of smaller training sets, the first of the training frames; those that lack an element are left out."""
    from sklearn.base import clone

    points, needed = [], {z for row in test for z in frames.atoms[row].numbers}
    for size in dict.fromkeys(len(train) // share for share in SHARES):
        rows = train[:size]
        known = {z for row in rows for z in frames.atoms[row].numbers}
        if size < FEWEST or size == len(train) or not needed <= known:
            continue
        begun = time.perf_counter()
        copy: Any = clone(model)
        smaller = fit(copy, frames[rows])
        points.append(judge(smaller, frames, rows, test, time.perf_counter() - begun))
        say(args, f"{size} frames: " + ", ".join(f"{n} {e['mae']:.4g}" for n, e in points[-1]["errors"].items()))
    return points


def save(model: Any, path: Path, about: dict[str, Any]) -> None:
    """With what it was made of, and without the bars of this run."""
    from so3ntk.saving import save as save_model

    shown, model.progress = model.progress, False
    save_model(model, path, about=about)
    model.progress = shown


def draw(frames: Frames, model: Any, points: list[dict[str, Any]], out: Path) -> list[Path]:
    """Parity on the frames held out, and a learning curve of each quantity."""
    from so3ntk.basics.plots import plot_learning_curves, plot_parity

    found, known = model.predict(frames.atoms), np.isfinite(frames.energies)
    panels = (
        [(frames.energies[known], found.energies[known], f"{target_of(frames)} [{frames.unit}]")] if known.any() else []
    )
    pairs = [(a, b) for a, b in zip(frames.forces, found.forces, strict=True) if a is not None]
    if pairs:
        truth, predicted = (np.concatenate(side).ravel() for side in zip(*pairs, strict=True))
        panels.append((truth, predicted, f"force component [{frames.unit}/Å]"))
    title = f"{len(frames)} frames held out"
    pictures = [replace_file(out / "parity.png", lambda file: plot_parity(panels, file, title=title))]
    for name, stem, per in (("energy", "energy", ""), ("force component", "forces", "/Å")):
        values = [(method, p["size"], p[key][name]["mae"]) for p in points for method, key in
                  (("zero", "zero"), ("model", "errors")) if name in p[key]]  # fmt: skip
        if len(values) > 2 and all(value > 0 for _, _, value in values):
            label = f"mean absolute error of {name.replace('energy', target_of(frames))} [{frames.unit}{per}]"
            pictures.append(replace_file(out / f"learning_curve_{stem}.png", lambda file: plot_learning_curves(
                values, file, labels=METHODS, xlabel="training frames", ylabel=label, title=title)))  # fmt: skip  # noqa: B023
    return pictures


def _share(text: str) -> float:
    value = float(text)
    if not (0 <= value < 1 or value == int(value) >= 1):
        raise argparse.ArgumentTypeError(f"expected a share below 1 or a number of frames, got {text}")
    return value
