"""What the largest training set says of larger ones: the part of ``so3ntk molecules`` that ``--predict-to`` asks for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.cli.results import replace_file

if TYPE_CHECKING:
    from so3ntk.learning.curves.curve import LearningCurve


def check_reach(args: argparse.Namespace) -> None:
    """ValueError, before anything is computed, for a --predict-to that is no prediction, or from too few molecules."""
    if args.predict_to is None:
        return
    from so3ntk.learning.curves.curve import FEWEST  # not for --help

    largest = max(args.sizes)
    if args.predict_to <= largest:
        raise ValueError(
            f"--predict-to: {args.predict_to} molecules are no more than the largest of --sizes, {largest}, where errors are measured. Pass a "
            "larger number."
        )
    if largest < FEWEST:
        raise ValueError(f"--predict-to: expected --sizes to reach at least {FEWEST} molecules, got {largest}.")


def predicted_sizes(args: argparse.Namespace) -> list[int]:
    """Those measured, doublings of the largest, and the one asked for."""
    doubled, size = [], 2 * max(args.sizes)
    while size < args.predict_to:
        doubled.append(size)
        size *= 2
    return sorted({*args.sizes, *doubled, args.predict_to})


def report_predictions(
    args: argparse.Namespace, curves: Sequence[LearningCurve], points: Sequence[Any], units: Sequence[tuple[str, float]],
    out: Path,
) -> LearningCurve:  # fmt: skip
    """Print the predicted errors beside the measured, means over draws, and draw them in the first unit. Returned in the data's unit.

    units: of the tables, with what numbers in the data's unit are multiplied by.
    """
    from so3ntk.learning.curves.curve import mean_curve

    mean = mean_curve(curves)
    measured: dict[int, list[float]] = {}
    for point in points:
        if point.method == "so3":
            measured.setdefault(point.size, []).append(point.rmse)
    errors = {size: float(np.sqrt(np.mean(np.square(values)))) for size, values in measured.items()}
    for unit, factor in units:
        print(_table(mean.scaled(factor), {size: value * factor for size, value in errors.items()}, unit))
    print(f"Predicted for the SO(3) kernel from {mean.inputs} molecules. {mean.statement}")
    unit, factor = units[0]
    title = f"SO(3) kernel, predicted from {mean.inputs} molecules, {args.test} test molecules"
    points_of_picture = [(size, value * factor) for size, value in sorted(errors.items())]
    picture = replace_file(out / "predicted_curve.png", lambda path: mean.scaled(factor).plot(
        path, points_of_picture, title=title, unit=unit))  # fmt: skip
    print(picture)
    return mean


def _table(curve: LearningCurve, measured: dict[int, float], unit: str) -> str:
    """Lines for what is measured, what is predicted, and the band; a column for each size."""
    rows = [("measured", [measured.get(int(size)) for size in curve.sizes])]
    rows += [("predicted", curve.rmse.tolist()), ("  from", curve.low.tolist()), ("  to", curve.high.tolist())]
    lines = [f"{f'root mean square error [{unit}]':<36}" + "".join(f"{size:>9}" for size in curve.sizes)]
    for label, values in rows:
        lines.append(f"{label:<36}" + "".join(f"{'' if v is None else f'{v:.2f}':>9}" for v in values))
    return "\n".join(lines)
