"""Tables and pictures of the records of regressions (records.py, methods.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from methods import labelled
from records import Run

#: Okabe and Ito's, which are told apart by readers of all kinds, without the yellow that is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*X<>"
LINES = ("-", "--", ":")


def groups_of(records: Sequence[Run]) -> dict[str, list[Run]]:
    """Records by the molecules that they were drawn from."""
    found = defaultdict(list)
    for record in records:
        run = record["run"]
        target = f"-{run['target']}" if "target" in run else ""
        found[f"{run['data']}-{run['molecules']}-{run['test']}{target}"].append(record)
    return dict(found)


def cells_of(records: Sequence[Run], value: Callable[[Run], float]) -> dict[str, dict[int, dict[int, float]]]:
    """value by label, size and seed."""
    found: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for label, record in labelled(records):
        run = record["run"]
        found[label][run["size"]][run["seed"]] = value(record)
    return {
        label: {size: dict(sorted(seeds.items())) for size, seeds in sorted(sizes.items())}
        for label, sizes in found.items()
    }


def print_tables(records: Sequence[Run]) -> None:
    """Errors, leave-one-out errors, seconds and memory by method and size, for each set of molecules."""
    for group, chosen in groups_of(records).items():
        run = chosen[0]["run"]
        print(f"\n{run['data']}, {run['molecules']} molecules a seed, the last {run['test']} for the test ({group})")
        print(f"machine: {sorted({str(record['machine']['cores']) for record in chosen})} cores; {_versions(chosen)}")
        unit, digits = ("[kcal/mol]", 2) if "target" not in run else ("[units of load_qm9]", 4)
        quantity = f"MAE of {run.get('target', 'U0')} {unit}"
        _print_table(f"{quantity}: mean (each seed)", chosen, lambda record: record["mae"], each=True, digits=digits)
        _print_table(f"RMSE {unit}", chosen, lambda record: record["rmse"], digits=digits)
        _print_table(f"leave-one-out RMSE {unit}", chosen, lambda record: record["loo"], digits=digits)
        told = [record for record in chosen if "within" in record]
        if told:
            _print_table("within a deviation, with noise", told, lambda record: record["within"], each=True)
        _print_table("seconds of the whole method", chosen, lambda record: record["seconds"]["total"], digits=1)
        _print_table("peak memory [MiB]", chosen, lambda record: record["peak_mib"]["whole"], digits=0)


def _versions(records: Sequence[Run]) -> str:
    found = defaultdict(set)
    for record in records:
        for name, version in record["versions"].items():
            found[name].add(version)
    return ", ".join(f"{name} {'/'.join(sorted(found[name]))}" for name in sorted(found))


def _print_table(
    title: str, records: Sequence[Run], value: Callable[[Run], float], each: bool = False, digits: int = 2
) -> None:
    cells = cells_of(records, value)
    sizes = sorted({size for sizes in cells.values() for size in sizes})
    texts = {
        label: [_cell(found[size], each, digits) if size in found else "-" for size in sizes]
        for label, found in cells.items()
    }
    widths = [max(len(str(size)), *(len(row[k]) for row in texts.values())) + 3 for k, size in enumerate(sizes)]
    first = max(len(title), *(len(label) for label in cells))
    print(f"\n{title:<{first}}" + "".join(f"{size:>{width}}" for size, width in zip(sizes, widths, strict=True)))
    for label, row in texts.items():
        print(f"{label:<{first}}" + "".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True)))


def _cell(seeds: dict[int, float], each: bool, digits: int) -> str:
    mean = f"{np.mean(list(seeds.values())):.{digits}f}"
    return f"{mean} ({', '.join(f'{value:.{digits}f}' for value in seeds.values())})" if each else mean


def print_stages(records: Sequence[Run]) -> None:
    """Mean seconds of each stage, a line for each label and size."""
    found: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for label, record in labelled(records):
        found[label, record["run"]["size"]].append(record)
    stages = ("representation", "selection", "prior", "features", "kernel", "solve", "predict", "total")
    first = max(len(label) for label, _ in found)
    print(f"\n{'seconds of the stages':<{first}}{'N':>7}" + "".join(f"{stage:>15}" for stage in stages))
    for (label, size), chosen in found.items():
        means = [np.mean([record["seconds"].get(stage, 0.0) for record in chosen]) for stage in stages]
        print(f"{label:<{first}}{size:>7}" + "".join(f"{mean:>15.2f}" for mean in means))


def draw(records: Sequence[Run], folder: str | Path) -> list[Path]:
    """Two pictures of each set of molecules: error against training molecules, and against seconds.

    Composition alone, which takes milliseconds, is in the first.
    """
    written, folder = [], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for group, chosen in groups_of(records).items():
        errors = cells_of(chosen, lambda record: record["mae"])
        seconds = cells_of(chosen, lambda record: record["seconds"]["total"])
        curves = {label: ([*sizes], sizes) for label, sizes in errors.items()}
        costs = {
            label: ([np.mean([*seconds[label][size].values()]) for size in sizes], sizes)
            for label, sizes in errors.items()
            if label != "composition"
        }
        for name, x_label, lines in (
            ("size", "training molecules", curves),
            ("seconds", "seconds of the whole method, compilation included", costs),
        ):
            written.append(folder / f"{group}-{name}.png")
            target = chosen[0]["run"].get("target", "U0")
            draw_lines(lines, x_label, f"MAE of {target}" + " [kcal/mol]" * (target == "U0"), written[-1])
    return written


def draw_lines(lines: dict[str, tuple[Sequence[float], dict[Any, dict[int, float]]]], x_label: str, y_label: str, path: Path):  # fmt: skip
    """Lines of means on two logarithmic axes, with bars from the smallest to the largest seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = pyplot.subplots(figsize=(7.5, 6.5), layout="constrained")
    styles = zip(cycle(COLOURS), cycle(MARKERS), (line for line in LINES for _ in COLOURS), strict=False)
    for (label, (x, cells)), (colour, marker, style) in zip(lines.items(), styles, strict=False):
        values = [[*seeds.values()] for seeds in cells.values()]
        means = np.array([np.mean(seeds) for seeds in values])
        spread = [means - [min(seeds) for seeds in values], [max(seeds) for seeds in values] - means]
        axes.errorbar(
            x, means, yerr=spread, label=label, color=colour, marker=marker, linestyle=style, capsize=2, lw=1.4
        )
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=2)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
