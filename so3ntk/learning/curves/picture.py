"""The picture of predicted learning curves over measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.plots import TICKS, require_matplotlib

if TYPE_CHECKING:
    from so3ntk.learning.curves.curve import LearningCurve

#: A predicted curve, measured (size, root mean square), and a name.
Panel = tuple["LearningCurve", Sequence[tuple[int, float]], str]


def draw_curves(panels: Sequence[Panel], path: str | PathLike, *, title: str = "", unit: str = "") -> Path:
    """One line a panel with its band, dashed where the sample does not resolve it; measured errors as points. Written as a PNG."""
    plt = require_matplotlib("LearningCurve.plot")
    figure, axes = plt.subplots(figsize=(6.4, 4.4), constrained_layout=True)
    for panel, marker in zip(panels, "osD^vP*X" * len(panels), strict=False):
        draw_curve(axes, panel, marker)
    finish_axes(axes, unit)
    axes.set_title(title or f"predicted from {panels[0][0].inputs} inputs")
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def draw_curve(axes: Any, panel: Panel, marker: str = "o") -> None:
    """The line, the band, the plain formula and the points."""
    curve, measured, name = panel
    order = np.argsort(curve.sizes)
    sizes, rmse, resolved = curve.sizes[order], curve.rmse[order], curve.resolved[order]
    label = f"{name}, predicted" if name else "predicted"
    (line,) = axes.plot(sizes, rmse, "--", label=label + ("" if resolved.all() else " (dashed: tails continued)"))
    axes.plot(np.where(resolved, sizes, np.nan), rmse, "-", color=line.get_color())
    axes.fill_between(sizes, curve.low[order], curve.high[order], color=line.get_color(), alpha=0.15, linewidth=0)
    if not name:
        axes.plot(sizes, curve.plain.rmse[order], ":", color="gray", label="formula with the sample's own modes")
    if len(measured):
        places, values = zip(*sorted(measured), strict=True)
        own = {"color": line.get_color()} if name else {"color": "black"}
        axes.plot(places, values, marker, ms=4, label=f"{name}, measured" if name else "measured", **own)


def finish_axes(axes: Any, unit: str) -> None:
    """Logarithmic axes with round numbers."""
    axes.set(xscale="log", yscale="log", xlabel="training inputs")
    axes.set_ylabel("root mean square error" + (f" [{unit}]" if unit else ""))
    low, high = axes.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    if len(ticks) >= 2:
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
