"""The picture of a spectrum: eigenvalues, the targets' power in them, and the learning curve that follows."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.plots import require_matplotlib
from so3ntk.learning.curves.picture import draw_curve, finish_axes

if TYPE_CHECKING:
    from so3ntk.learning.curves.curve import LearningCurve
    from so3ntk.spectra.decomposition import GramSpectrum


def draw_spectrum(
    spectrum: GramSpectrum,
    path: str | PathLike,
    curve: LearningCurve | None = None,
    measured: Sequence[tuple[int, float]] = (),
    *,
    title: str = "",
    unit: str = "",
    targets: bool = True,
) -> Path:
    """One panel for the eigenvalues, one for the power of the targets if there are any, one for a curve; written as a PNG."""
    plt = require_matplotlib("GramSpectrum.plot")
    count = 1 + targets + (curve is not None)
    figure, row = plt.subplots(1, count, figsize=(4.6 * count, 4.2), constrained_layout=True, squeeze=False)
    panels = list(row[0])
    _draw_eigenvalues(panels.pop(0), spectrum)
    if targets:
        _draw_powers(panels.pop(0), spectrum)
    if curve is not None:
        axes = panels.pop(0)
        draw_curve(axes, (curve, measured, ""))
        finish_axes(axes, unit)
        axes.set_title(f"learning curve predicted from {curve.inputs} inputs")
    if title:
        figure.suptitle(title)
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _draw_eigenvalues(axes: Any, spectrum: GramSpectrum) -> None:
    values, number = spectrum.eigenvalues, np.arange(1, len(spectrum) + 1)
    axes.loglog(number, np.where(values > 0, values, np.nan), ".", ms=3, label="positive")
    if np.any(values < -spectrum.rounding):
        axes.loglog(number, np.where(values < 0, -values, np.nan), "x", ms=3, color="C3", label="negative, absolute")
    if np.any(values <= spectrum.rounding):
        axes.axhline(spectrum.rounding, color="gray", ls=":", lw=1, label=f"rounding of {spectrum.precision}")
    decay = spectrum.decay
    if np.isfinite(decay.value):
        some = np.array([decay.first, decay.last])
        middle = np.sqrt(decay.first * decay.last)
        height = np.exp(
            np.interp(np.log(middle), np.log(number), np.log(np.maximum(values, spectrum.rounding or 1e-300)))
        )
        axes.loglog(some, height * (some / middle) ** -decay.value, "k-", lw=1,
                    label=f"exponent {decay.value:.2f} $\\pm$ {decay.error:.2f}")  # fmt: skip
    axes.set(xlabel="mode", ylabel="eigenvalue of K / n", title="eigenvalues")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_powers(axes: Any, spectrum: GramSpectrum) -> None:
    number = np.arange(1, len(spectrum) + 1)
    left = np.maximum(1 - spectrum.cumulative_power, 1e-16)
    axes.loglog(number[:-1], left[:-1], "-")
    axes.set(xlabel="modes", ylabel="share of the targets' power beyond them", title="power of the targets")
    axes.grid(True, which="major", alpha=0.3)
