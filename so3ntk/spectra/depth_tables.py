"""``Trainability`` as a table and as a picture."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.plots import require_matplotlib

if TYPE_CHECKING:
    from so3ntk.spectra.deep_networks import Trainability


def table(found: Trainability) -> str:
    """Fixed points, depth scales, modes, and both quantities against depth."""
    lines = [
        f"{found.block}: {found.phase}",
        f"  q* {found.q_star:.6g}   c* {found.c_star:.6g}   χ₁ {found.chi_1:.6g}   χ_c {found.chi_c:.6g}   χ_q {found.chi_q:.6g}",
        f"  depth scales in layers: of inputs (χ_c) {found.depth_c:.4g}, of gradients (χ₁) {found.depth_1:.4g}, of variances "
        f"(χ_q) {found.depth_q:.4g}",
    ]
    if not math.isnan(found.edge):
        lines.append(f"  edge of chaos at W_std {found.edge:.6g}")
    elif not math.isnan(found.edge_factor):
        lines.append(f"  edge of chaos where all W_std are {found.edge_factor:.6g} times as large")
    lines += [f"  {note}" for note in found.notes]
    if found.modes is not None:
        rows: list[tuple[str, ...]] = [("mode", "multiplier", "χ_c w", "depth", "χ_q w", "depth")]
        columns = (found.modes.multiplier, found.modes.factor, found.modes.depth, found.modes.variance_factor,
                   found.modes.variance_depth)  # fmt: skip
        for i, label in enumerate(found.modes.labels):
            rows.append((str(label), *(f"{column[i]:.4g}" for column in columns)))
        lines += aligned(rows)
    lines.append(f"  κ(Θ) of {found.inputs} inputs {found.laws.condition.text}; "
                 f"P on centred targets {found.laws.centred.text}, on constant ones {found.laws.constant.text}")  # fmt: skip
    rows = [("depth", "κ", "predicted", "P centred", "predicted", "P constant", "predicted")]
    columns = (found.condition, found.condition_predicted, found.mean_predictor, found.mean_predictor_predicted,
               found.constant_predictor, found.constant_predictor_predicted)  # fmt: skip
    for i, depth in enumerate(found.depths):
        rows.append((str(depth), *(f"{column[i]:.4g}" for column in columns)))
    return "\n".join(lines + aligned(rows))


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def picture(found: Trainability, path: str | PathLike, title: str | None) -> Path:
    """Two panels against depth, and one of the modes where there are any."""
    plt = require_matplotlib("Trainability.plot")
    panels = 2 + (found.modes is not None)
    figure, axes = plt.subplots(1, panels, figsize=(4.6 * panels, 4.2), constrained_layout=True)
    order = np.argsort(found.depths)
    depths = np.array(found.depths)[order]
    above = 1 if found.laws.condition.limit == 1 else 0  # what falls with depth is the excess over one
    name = "κ(Θ) - 1" if above else "κ(Θ)"
    _panel(axes[0], depths, [(name, found.condition[order] - above, found.condition_predicted[order] - above, "C0")])
    axes[0].set(title=f"Condition number: κ {found.laws.condition.text}", ylabel=f"{name}, {found.inputs} inputs")
    _panel(axes[1], depths, [
        ("centred targets", found.mean_predictor[order], found.mean_predictor_predicted[order], "C1"),
        ("constant targets", found.constant_predictor[order], found.constant_predictor_predicted[order], "C2"),
    ])  # fmt: skip
    axes[1].set(title=f"Mean predictor, centred targets: P {found.laws.centred.text}", ylabel="size of P(Θ)")
    for panel in axes[:2]:
        if 0 < found.depth_c < depths[-1]:
            panel.axvline(found.depth_c, color="0.5", lw=0.8, ls=":", label=f"depth scale {found.depth_c:.3g}")
        panel.set(xlabel="layers")
        panel.legend(fontsize=8, frameon=False)
    if found.modes is not None:
        _modes_panel(axes[2], found)
    figure.suptitle(title or f"{found.block}: {found.phase}, χ₁ = {found.chi_1:.4g}", fontsize=10)
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _panel(axes: Any, depths: np.ndarray, curves: list[tuple[str, np.ndarray, np.ndarray, str]]) -> None:
    for label, measured, predicted, colour in curves:
        axes.plot(depths, measured, "o", ms=4, color=colour, label=label)
        axes.plot(depths, predicted, "-", lw=1, color=colour, label="predicted")
    axes.set_yscale("log")
    axes.grid(True, alpha=0.3)


def _modes_panel(axes: Any, found: Trainability) -> None:
    assert found.modes is not None
    places = np.arange(len(found.modes.labels))
    axes.bar(places, np.nan_to_num(found.modes.depth, posinf=0.0), color="C0")
    axes.set_xticks(
        places, [str(label) for label in found.modes.labels], rotation=90 if len(places) > 10 else 0, fontsize=8
    )
    axes.set(xlabel="degree" if isinstance(found.modes.labels[0], int) else "wave numbers", ylabel="layers")
    axes.set(title="Depth scale of each mode of the position")
    axes.grid(True, axis="y", alpha=0.3)
