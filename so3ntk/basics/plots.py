"""Pictures of results. Needs matplotlib (the extras ``molecules`` and ``images``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

#: Round numbers for a logarithmic axis.
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500,
         1000)  # fmt: skip


def require_matplotlib(where: str) -> Any:
    """matplotlib's pyplot with a backend that needs no screen. ImportError naming the extras if it is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"{where}: pictures need matplotlib. pip install matplotlib.") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def plot_learning_curves(
    points: Iterable[tuple[str, int, float]],
    path: str | PathLike,
    *,
    ylabel: str,
    title: str,
    xlabel: str,
    labels: Mapping[str, str] | None = None,
    percent: bool = False,
) -> Path:
    """A quantity against the training size, one line per method; written as a PNG.

    points: (method, size, value); several of one size are averaged, with a band from their least to their largest.
    Sizes are on a logarithmic axis; so are values, which must be positive, unless ``percent``: then the axis ends at
    0 and 100.
    """
    plt = require_matplotlib("plot_learning_curves")
    curves: dict[str, dict[int, list[float]]] = {}
    for method, size, value in points:
        curves.setdefault(method, {}).setdefault(size, []).append(value)
    figure, axes = plt.subplots(figsize=(6, 4.2), constrained_layout=True)
    for (method, by_size), marker in zip(curves.items(), "osD^vP*X" * len(curves), strict=False):
        _draw(axes, by_size, marker, (labels or {}).get(method, method))
    axes.set_xscale("log")
    sizes = sorted({size for by_size in curves.values() for size in by_size})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    if percent:
        axes.set_ylim(0, 100)
    else:
        _logarithmic(axes, [float(np.mean(v)) for by_size in curves.values() for v in by_size.values()])
    axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def plot_parity(panels: Sequence[tuple[np.ndarray, np.ndarray, str]], path: str | PathLike, *, title: str = "") -> Path:
    """Predicted against true values, one panel for each (truth, predicted, label), arrays of one shape; written as a PNG.

    A panel's title is the mean absolute error; points on the diagonal are right. label: "energy [eV]".
    """
    plt = require_matplotlib("plot_parity")
    figure, row = plt.subplots(
        1, len(panels), figsize=(4.4 * len(panels), 4.8 if title else 4.4), constrained_layout=True, squeeze=False
    )
    for axes, (truth, predicted, label) in zip(row[0], panels, strict=True):
        truth, predicted = np.ravel(truth), np.ravel(predicted)
        low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        margin = 0.04 * (high - low) or 1.0
        ends = (low - margin, high + margin)
        axes.plot(ends, ends, "k-", lw=0.8)
        axes.plot(truth, predicted, "o", ms=3, alpha=0.5, mew=0)
        error = np.abs(truth - predicted).mean()
        axes.set(xlabel=f"reference {label}", ylabel=f"predicted {label}", title=f"mean absolute error {error:.3g}")
        axes.locator_params(nbins=5)  # labels of small numbers would run into each other
        axes.set(xlim=ends, ylim=ends)
        axes.set_box_aspect(1)
        axes.grid(True, alpha=0.3)
    if title:
        figure.suptitle(title)
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _draw(axes: Any, by_size: Mapping[int, list[float]], marker: str, label: str) -> None:
    """The line of means, and the band where a size has several values."""
    sizes = np.array(sorted(by_size))
    values = [np.array(by_size[size]) for size in sizes]
    (line,) = axes.plot(sizes, [v.mean() for v in values], marker=marker, label=label)
    if max(len(v) for v in values) > 1:
        low, high = zip(*[(v.min(), v.max()) for v in values], strict=True)
        axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _logarithmic(axes: Any, values: list[float]) -> None:
    """A logarithmic axis with round numbers, where at least two of them are near the values."""
    axes.set_yscale("log")
    ticks = [tick for tick in TICKS if 0.8 * min(values) <= tick <= 1.2 * max(values)]
    if len(ticks) >= 2:
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
