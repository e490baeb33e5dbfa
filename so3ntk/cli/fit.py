"""``so3ntk fit``: from files of frames to a saved potential."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.files import writable_file
from so3ntk.cli.held_out import METHODS, curve, draw, fit, judge
from so3ntk.cli.intensive import Intensive
from so3ntk.cli.potentials import add_reading_options, by_file, format_errors, read, target_of
from so3ntk.cli.results import (
    HelpFormatter,
    add_message_options,
    not_negative,
    output_folder,
    positive,
    say,
    settings,
    write_json,
)

if TYPE_CHECKING:
    from so3ntk.molecules import EnergyForceRegressor, Frames

#: Energies and components of forces beyond which a basis of so many functions takes their place: matrices of 2 GiB.
ROWS, INDUCING = 12_000, 4000


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
    add("--inducing", type=positive, metavar="N", help="functions of a basis in place of the covariances of all energies and "
        f"forces; default: {INDUCING} where these are more than {ROWS}, else none")  # fmt: skip
    add("--baseline", choices=("composition", "isolated", "none"), help="energies of elements: by least squares, or of the "
        "isolated atoms in the data; default: isolated where all elements have one, else composition")  # fmt: skip
    add("--intensive", action="store_true", help="the number does not grow with the structure, as a gap: an intercept in place of "
        "energies of elements, no forces, and all atoms or --inducing ones as the basis")  # fmt: skip
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
    model = model_of(args, frames, train)
    say(args, f"{len(train)} frames to train on, {len(test)} held out; baseline: {baseline_of(args, frames)}")
    begun = time.perf_counter()
    fit(model, frames[train])
    seconds = time.perf_counter() - begun
    about = {
        "unit": unit, "length_unit": "Angstrom", "keys": dict(frames.keys), "files": by_file(frames, train, test),
        "seed": args.seed, "baseline": baseline_of(args, frames), "counts": frames[train].counts(),
    }  # fmt: skip
    save(model, path, about)  # now: what follows adds to the file what it finds
    print(f"{path}: {len(train)} frames in {seconds:.0f} s")
    points, pictures = [], []
    if len(test):
        points = [judge(model, frames, train, test, seconds)]
        about["errors"] = points[0]["errors"]
        save(model, path, about)
        title, beside = f"{len(test)} frames held out", {METHODS["zero"]: points[0]["zero"]}
        print(format_errors(title, points[0]["errors"], unit, target_of(frames), beside))
        points = [*curve(partial(model_of, args, frames), frames, train, test, partial(say, args)), *points]
        pictures = draw(frames[test], model, points, out)
    estimator = estimator_of(model)
    names = ("energy_noise_", "force_noise_", "stress_noise_", "ridge_", "amplitude_")
    noises = {name: float(value) for name in names if (value := getattr(estimator, name, None)) is not None}
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
    if args.intensive:
        return "intercept"
    elements = {symbol for atoms in frames.atoms for symbol in atoms.get_chemical_symbols()}
    missing = sorted(elements - set(frames.isolated))
    if args.baseline == "isolated" and missing:
        raise ValueError(
            f"--baseline isolated: the files hold no isolated atom of {', '.join(missing)}, a frame of one atom with its "
            "energy. Add them, or pass --baseline composition."
        )
    return args.baseline or ("composition" if missing else "isolated")


def model_of(args: argparse.Namespace, frames: Frames, train: np.ndarray) -> EnergyForceRegressor | Intensive:
    """The regressor that the options and the number of training frames ask for."""
    from so3ntk.molecules import EnergyForceRegressor
    from so3ntk.molecules.forces.regressor import FORCE_ENVIRONMENTS, elements_of

    kind = baseline_of(args, frames)
    if kind == "intercept":
        return Intensive.new(frames.atoms, args.cutoff, args.inducing, progress=not args.quiet)
    baseline: Any = dict(frames.isolated) if kind == "isolated" else kind == "composition"
    environment = None
    if args.cutoff is not None:
        radial = replace(FORCE_ENVIRONMENTS["radial"], cutoff=args.cutoff)
        environment = {**FORCE_ENVIRONMENTS, "radial": radial, "species": elements_of(frames.atoms)}
    rows = sum(1 + 3 * len(frames.atoms[i]) * (frames.forces[i] is not None) for i in train)
    inducing = INDUCING if args.inducing is None and rows > ROWS else args.inducing
    return EnergyForceRegressor(
        environment=environment, baseline=baseline, inducing=inducing, seed=args.seed, progress=not args.quiet
    )


def estimator_of(model: Any) -> Any:
    """What is saved of a model."""
    return model.regressor if isinstance(model, Intensive) else model


def save(model: Any, path: Path, about: dict[str, Any]) -> None:
    """With what it was made of, and without the bars of this run."""
    from so3ntk.saving import save as save_model

    estimator = estimator_of(model)
    shown, estimator.progress = estimator.progress, False
    save_model(estimator, path, about=about)
    estimator.progress = shown


def _share(text: str) -> float:
    value = float(text)
    if not (0 <= value < 1 or value == int(value) >= 1):
        raise argparse.ArgumentTypeError(f"expected a share below 1 or a number of frames, got {text}")
    return value
