"""Error and time of so3ntk.InducingRegressor on QM9 against the number of inducing atoms, their selection, grid and dtype.

    python benchmarks/inducing.py --results FILE [--counts 300 500 1000 1500 2000 3000 4000] [--plot DIR]
    python benchmarks/inducing.py --results FILE --counts 1000 2000 --selections farthest cholesky random
    python benchmarks/inducing.py --results FILE --counts 2000 --grids 12 16 20 auto --dtypes float32 float64

Molecules, network, records and what seconds are, as in learning_qm9.py, whose results file may be the same: a run that either
has done is not repeated. All combinations of counts, selections, grids and dtypes are run, by default on seed 0 with 1,000
training molecules. float64 needs JAX_ENABLE_X64=1: run it apart; records have the precision of JAX in their notes.
Printed: one line for each combination, averaged over seeds: the errors, the stages' seconds, the jitter of k(Z, Z).
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from learning_qm9 import data_of, parser_of
from methods import measure, runs_of
from records import Results, Run
from tables import draw_lines

STAGES = ("representation", "selection", "prior", "features", "solve", "predict", "total")


def combinations(args: argparse.Namespace) -> list[Run]:
    """The options of each combination."""
    return [
        {"inducing": count, "selection": selection, "grid": None if grid == "auto" else grid, "dtype": dtype}
        for selection, grid, dtype, count in product(args.selections, args.grids, args.dtypes, args.counts)
    ]


def series_of(run: Run) -> str:
    """All of a run's options but the number of inducing atoms."""
    options = run["settings"]
    return f"{options['selection']}, grid {options['grid'] or 'auto'}, {options['dtype']}, N = {run['size']}"


def averaged(records: list[Run]) -> dict[tuple[str, int], list[Run]]:
    """The records of all seeds by series and number of inducing atoms."""
    found: dict[tuple[str, int], list[Run]] = {}
    for record in records:
        found.setdefault((series_of(record["run"]), record["notes"]["inducing"]), []).append(record)
    return found


def print_table(records: list[Run]) -> None:
    found = averaged(records)
    first = max(len(series) for series, _ in found)
    print(f"{'':<{first}}{'m':>7}{'MAE':>8}{'RMSE':>8}{'LOO':>8}{'jitter':>9}{'MiB':>7}"
          + "".join(f"{stage:>15}" for stage in STAGES))  # fmt: skip
    for (series, count), chosen in found.items():
        errors = [np.mean([record[name] for record in chosen]) for name in ("mae", "rmse", "loo")]
        jitter = max(record["notes"]["jitter"] for record in chosen)
        peak = np.mean([record["peak_mib"]["whole"] for record in chosen])
        seconds = [np.mean([record["seconds"].get(stage, 0.0) for record in chosen]) for stage in STAGES]
        print(f"{series:<{first}}{count:>7}" + "".join(f"{error:>8.3f}" for error in errors)
              + f"{jitter:>9.0e}{peak:>7.0f}" + "".join(f"{taken:>15.2f}" for taken in seconds))  # fmt: skip


def draw(records: list[Run], folder: str) -> None:
    """Error against inducing atoms, and against seconds."""
    errors: dict[str, dict[int, dict[int, float]]] = {}
    seconds: dict[str, list[float]] = {}
    for (series, count), chosen in sorted(averaged(records).items()):
        errors.setdefault(series, {})[count] = {record["run"]["seed"]: record["mae"] for record in chosen}
        seconds.setdefault(series, []).append(float(np.mean([record["seconds"]["total"] for record in chosen])))
    by_count = {series: ([*cells], cells) for series, cells in errors.items()}
    by_seconds = {series: (seconds[series], cells) for series, cells in errors.items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, x_label, lines in (
        ("atoms", "inducing atoms", by_count),
        ("seconds", "seconds of the whole method, compilation included", by_seconds),
    ):
        draw_lines(lines, x_label, "MAE of U0 [kcal/mol]", Path(folder, f"inducing-{name}.png"))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, default=1000, help="training molecules")
    parser.add_argument("--counts", type=int, nargs="+", default=[300, 500, 1000, 1500, 2000, 3000, 4000])
    parser.add_argument("--selections", nargs="+", default=["farthest"], help="farthest, cholesky, random")
    parser.add_argument("--grids", nargs="+", default=["auto"], metavar="N[xB]", help="rotations; auto: by rtol")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    args = parser.parse_args()
    data, results = data_of(args, [args.size], parser), Results(args.results)
    runs = [run for each in combinations(args) for run in runs_of(["so3"], each, args.seeds, [args.size], data)]
    complete = results.complete(runs, partial(measure, path=args.fragments or args.path))
    records = results.of(runs)
    if records:
        print_table(records)
        if args.plot:
            draw(records, args.plot)
    if not complete:
        parser.exit(1, "some runs failed: see their tracebacks above; they are repeated by the next call.\n")


if __name__ == "__main__":
    main()
