"""Where the phases of deep networks lie: the edge of chaos, and a diagram over W_std and b_std."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
from jaxtyping import Float, Shaped

from so3ntk.basics.plots import require_matplotlib
from so3ntk.spectra.block import Block, block_of, check_deviation
from so3ntk.spectra.fixed_points import CRITICAL, fixed_points

#: Factors of W_std among which the edge of chaos is looked for.
FACTORS = np.geomspace(1e-2, 1e2, 33)
#: chi_1 is taken for no more, so that infinite ones can be bracketed.
STEEPEST = 1e6


def edge_of_chaos(block: Block) -> float:
    """By what to multiply all W_std of the block so that chi_1 = 1, the factor nearest to one; NaN where none does."""
    if block.homogeneity == 1.0 and len(block.affine) == 1:
        chi = fixed_points(block, False).chi_1  # W^2 times a number
        return math.sqrt(1 / chi) if chi > 0 else math.nan
    gaps = np.array([_gap(block, factor) for factor in FACTORS])
    roots = []
    for i in range(len(FACTORS) - 1):
        if gaps[i] * gaps[i + 1] < 0:
            ends = math.log(FACTORS[i]), math.log(FACTORS[i + 1])
            root = scipy.optimize.brentq(lambda t: _gap(block, math.exp(t)), *ends, xtol=1e-14)
            roots.append(math.exp(float(root)))  # pyright: ignore[reportArgumentType]
    return min(roots, key=lambda factor: abs(math.log(factor)), default=math.nan)


def _gap(block: Block, factor: float) -> float:
    """chi_1 - 1 with all W_std times a factor; NaN where no variance attracts."""
    try:
        return _excess(block.scaled(factor))
    except ValueError:
        return math.nan


def _excess(block: Block) -> float:
    return min(fixed_points(block, False).chi_1, STEEPEST) - 1


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Fixed points over a grid of deviations: arrays (b_std, W_std), and the edge of chaos as a line.

    q_star: 0 where variances vanish, infinite where they grow without bound, NaN where every variance stays. phase: "ordered",
    "critical", "chaotic", "unbounded", or "none" where no variance attracts. edge: for each b_std the W_std of chi_1 = 1, NaN
    where there is none.
    """

    activation: str
    W_std: Float[np.ndarray, " w"]
    b_std: Float[np.ndarray, " b"]
    q_star: Float[np.ndarray, "b w"]
    chi_1: Float[np.ndarray, "b w"]
    phase: Shaped[np.ndarray, "b w"]
    edge: Float[np.ndarray, " b"]

    def __repr__(self) -> str:
        counts = {name: int(np.sum(self.phase == name)) for name in np.unique(self.phase)}
        named = ", ".join(f"{count} {name}" for name, count in counts.items())
        return f"PhaseDiagram({self.activation}: {len(self.b_std)} x {len(self.W_std)} (b_std, W_std); {named})"

    def plot(self, path: str | PathLike, title: str | None = None) -> Path:
        """chi_1 as colours, equal variances and the edge of chaos as lines, over W_std and b_std; written as a PNG."""
        plt = require_matplotlib("PhaseDiagram.plot")
        figure, axes = plt.subplots(figsize=(6.4, 4.6), constrained_layout=True)
        with np.errstate(divide="ignore"):
            colours = np.clip(np.log(np.where(self.chi_1 > 0, self.chi_1, np.nan)), -1, 1)
        mesh = axes.pcolormesh(self.W_std, self.b_std, colours, cmap="RdBu_r", vmin=-1, vmax=1, shading="nearest")
        bar = figure.colorbar(mesh, ax=axes, extend="both", ticks=[-1, -0.5, 0, 0.5, 1])
        bar.set_label("ln χ₁: gradients vanish (blue), explode (red)")
        inside = np.where(np.isfinite(self.q_star) & (self.q_star > 0), self.q_star, np.nan)
        if min(inside.shape) > 1 and np.nanmax(inside, initial=0) > 2 * np.nanmin(inside, initial=np.inf):
            levels = [
                level for level in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30) if np.nanmin(inside) < level < np.nanmax(inside)
            ]
            lines = axes.contour(self.W_std, self.b_std, inside, levels=levels, colors="0.35", linewidths=0.7)
            axes.clabel(lines, fmt=lambda level: f"q* = {level:g}", fontsize=7)
        if np.isfinite(self.edge).any():
            axes.plot(self.edge, self.b_std, "k-", lw=2, label="edge of chaos, χ₁ = 1")
        unbounded = self.phase == "unbounded"
        if unbounded.any() and min(unbounded.shape) > 1:
            axes.contourf(
                self.W_std, self.b_std, unbounded.astype(float), levels=[0.5, 1.5], colors="none", hatches=["///"]
            )
            axes.fill([], [], facecolor="none", edgecolor="k", hatch="///", label="variances grow without bound")
        axes.set(xlabel="W_std", ylabel="b_std", title=title or f"Phases of deep networks: {self.activation}")
        axes.set(xlim=(self.W_std.min(), self.W_std.max()), ylim=(self.b_std.min(), self.b_std.max()))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", fontsize=8)
        path = Path(path)
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path


def phase_diagram(activation: Any, W_std: Any = None, b_std: Any = None) -> PhaseDiagram:
    """The phases of an activation, or of a block of layers, with these deviations in all its linear layers.

    W_std, b_std: grids, (w,) and (b,); by default 40 values from 0.5 to 3 and 21 from 0 to 1. Some 10 ms a point. Raises
    ValueError for grids that are empty, not finite, negative, or of weights of zero.
    """
    where = "phase_diagram"
    weights = _grid(np.linspace(0.5, 3, 40) if W_std is None else W_std, where, "W_std")
    biases = _grid(np.linspace(0, 1, 21) if b_std is None else b_std, where, "b_std")
    shape = len(biases), len(weights)
    q_star, chi_1, phase = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, "none", "<U9")
    edge = np.full(len(biases), np.nan)
    for i, b in enumerate(biases):
        for j, w in enumerate(weights):
            try:
                points = fixed_points(block_of(activation, float(w), float(b), where), False)
            except ValueError:
                continue
            q_star[i, j], chi_1[i, j], phase[i, j] = points.q_star, points.chi_1, points.phase
        edge[i] = _edge(activation, weights, chi_1[i], float(b))
    name = repr(block_of(activation, None, None, where)).split(" → Dense")[0]
    return PhaseDiagram(name, weights, biases, q_star, chi_1, phase, edge)


def _edge(activation: Any, weights: np.ndarray, chi_1: np.ndarray, b: float) -> float:
    """The first W_std between two of the grid where chi_1 passes one."""
    gaps = np.minimum(chi_1, STEEPEST) - 1
    critical = np.flatnonzero(np.abs(gaps) <= CRITICAL)
    crossing = np.flatnonzero(gaps[:-1] * gaps[1:] < 0)
    if len(critical) and (not len(crossing) or critical[0] <= crossing[0]):
        return float(weights[critical[0]])
    if not len(crossing):
        return math.nan
    low, high = weights[crossing[0]], weights[crossing[0] + 1]
    root = scipy.optimize.brentq(lambda w: _excess(block_of(activation, w, b, "phase_diagram")), low, high, xtol=1e-9)
    return float(root)  # pyright: ignore[reportArgumentType]


def _grid(values: Any, where: str, name: str) -> Float[np.ndarray, " n"]:
    """Increasing numbers (n,) that are deviations. ValueError for others."""
    grid = np.atleast_1d(np.asarray(values, np.float64))
    if grid.ndim != 1 or len(grid) == 0 or np.any(np.diff(grid) <= 0):
        raise ValueError(
            f"{where}: expected {name} to be increasing numbers (n,), at least one, got shape {grid.shape}."
        )
    for value in grid[[0, -1]]:
        check_deviation(float(value), where, name)
    return grid
