"""Pictures of results. Needs matplotlib (the extra ``molecules``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np


def require_matplotlib(where: str) -> Any:
    """matplotlib's pyplot with a backend that needs no screen. ImportError naming the extra if it is missing."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"{where}: pictures need matplotlib. Install so3ntk[molecules].") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def plot_learning_curves(
    points: Iterable[Any],
    path: str | PathLike,
    *,
    ylabel: str,
    title: str,
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Mean absolute error against training size, both logarithmic, one line per method; written as a PNG.

    points: objects with ``method``, ``size`` and ``mae``; several of one size are averaged, with a band from their
    least to their largest.
    """
    plt = require_matplotlib("plot_learning_curves")
    curves: dict[str, dict[int, list[float]]] = {}
    for point in points:
        curves.setdefault(point.method, {}).setdefault(point.size, []).append(point.mae)
    figure, axes = plt.subplots(figsize=(6, 4.2), constrained_layout=True)
    for (method, by_size), marker in zip(curves.items(), "osD^vP*X" * len(curves), strict=False):
        sizes = np.array(sorted(by_size))
        errors = [np.array(by_size[size]) for size in sizes]
        label = (labels or {}).get(method, method)
        (line,) = axes.loglog(sizes, [e.mean() for e in errors], marker=marker, label=label)
        if max(len(e) for e in errors) > 1:
            low, high = zip(*[(e.min(), e.max()) for e in errors], strict=True)
            axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    all_sizes = sorted({size for by_size in curves.values() for size in by_size})
    axes.set_xticks(all_sizes, [str(size) for size in all_sizes])
    axes.minorticks_off()
    lowest = min(np.mean(v) for by_size in curves.values() for v in by_size.values())
    highest = max(np.mean(v) for by_size in curves.values() for v in by_size.values())
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000)
             if 0.8 * lowest <= t <= 1.2 * highest]  # fmt: skip
    if len(ticks) >= 2:
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlabel("training molecules")
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
