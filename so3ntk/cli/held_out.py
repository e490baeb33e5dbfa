"""What ``so3ntk fit`` finds on frames that are held out: errors, learning curves, pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.cli.intensive import Intensive
from so3ntk.cli.potentials import errors_of, target_of
from so3ntk.cli.results import replace_file

if TYPE_CHECKING:
    from so3ntk.molecules import Frames

#: Shares of the training frames in the learning curve, and the fewest of a point.
SHARES, FEWEST = (8, 4, 2), 5
METHODS = {"model": "kernel", "zero": "without kernel"}


def fit(model: Any, frames: Frames) -> Any:
    """To energies, and to the forces and stresses that there are."""
    forces, stresses = (
        None if all(one is None for one in values) else values for values in (frames.forces, frames.stresses)
    )
    return model.fit(frames.atoms, frames.energies, forces, stresses)


def judge(model: Any, frames: Frames, train: np.ndarray, test: np.ndarray, seconds: float) -> dict[str, Any]:
    """A point of the learning curve: errors on the frames held out, and those without a kernel.

    These are of composition by least squares (of the mean, where numbers do not grow with the structure), and of forces that are zero.
    """
    from so3ntk.molecules import CompositionBaseline

    held_out, learned = frames[test], frames[train]
    found = model.predict(held_out.atoms)
    if isinstance(model, Intensive):
        zero = np.full(len(test), learned.energies.mean())
    else:
        zero = CompositionBaseline().fit(learned.atoms, learned.energies).predict(held_out.atoms)
    none = [np.zeros((len(atoms), 3)) for atoms in held_out.atoms], [np.zeros((3, 3)) for _ in held_out.atoms]
    return {
        "size": len(train),
        "errors": errors_of(held_out, found.energies, found.forces, found.stresses),
        "zero": errors_of(held_out, zero, *none),
        "seconds": seconds,
    }


def curve(
    make: Callable[[np.ndarray], Any],
    frames: Frames,
    train: np.ndarray,
    test: np.ndarray,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The points of smaller training sets, the first of the training frames; those that lack an element are left out.

    make: of rows to train on, a model that is not fitted.
    """
    points, needed = [], {z for row in test for z in frames.atoms[row].numbers}
    for size in dict.fromkeys(len(train) // share for share in SHARES):
        rows = train[:size]
        known = {z for row in rows for z in frames.atoms[row].numbers}
        if size < FEWEST or not needed <= known:
            continue
        begun = time.perf_counter()
        smaller = fit(make(rows), frames[rows])
        points.append(judge(smaller, frames, rows, test, time.perf_counter() - begun))
        report(f"{size} frames: " + ", ".join(f"{n} {e['mae']:.4g}" for n, e in points[-1]["errors"].items()))
    return points


def draw(frames: Frames, model: Any, points: list[dict[str, Any]], out: Path) -> list[Path]:
    """Parity on the frames held out, and a learning curve of each quantity."""
    from so3ntk.basics.plots import plot_learning_curves, plot_parity

    found, known = model.predict(frames.atoms), np.isfinite(frames.energies)
    panels = (
        [(frames.energies[known], found.energies[known], f"{target_of(frames)} [{frames.unit}]")] if known.any() else []
    )
    for true, own, label in (
        (frames.forces, found.forces, f"force component [{frames.unit}/Å]"),
        (frames.stresses, found.stresses, f"stress component [{frames.unit}/Å³]"),
    ):
        pairs = [(a, b) for a, b in zip(true, own, strict=True) if a is not None and b is not None]
        if pairs:
            truth, predicted = (np.concatenate(side).ravel() for side in zip(*pairs, strict=True))
            panels.append((truth, predicted, label))
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
