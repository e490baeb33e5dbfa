"""``IrrepSpectrum`` as a table and as a picture."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from so3ntk.basics.plots import require_matplotlib
from so3ntk.spectra.depth_tables import aligned

if TYPE_CHECKING:
    from so3ntk.spectra.irreps import IrrepSpectrum

#: Kinds and layers of a table and a picture; more are left out, and said to be.
MOST_KINDS, MOST_EIGENVALUES = 24, 60


def table(found: IrrepSpectrum) -> str:
    """Shares of the power after each layer, then the spectrum of each kind."""
    kinds = found.kinds[:MOST_KINDS]
    lines = [f"{found.kernel} of {found.signals} signals, {len(found.orbit.weights)} motions: shares of the power"]
    total = found.power.sum(axis=1) + np.nan_to_num(found.rest)
    rows: list[tuple[str, ...]] = [("after", *(kind.label for kind in kinds), "rest", "total")]
    for name, power, rest, all_of_it in zip(found.layers, found.power, found.rest, total, strict=True):
        shares = power[: len(kinds)] / all_of_it
        rows.append(
            (
                name,
                *(f"{share if abs(share) > 1e-12 else 0:.3g}" for share in shares),
                f"{rest / all_of_it:.2g}",
                f"{all_of_it:.4g}",
            )
        )
    lines += aligned(rows)
    rows = [("kind", "functions", "kept", "copies", "largest", "sum", "time")]
    for kind, values, kept, time in zip(kinds, found.eigenvalues, found.kept, found.learning_times, strict=False):
        rows.append((kind.label, str(kind.copies * kind.size), str(kept), str(kind.copies), f"{values[0]:.4g}",
                     f"{values.sum():.4g}", f"{time:.4g}"))  # fmt: skip
    lines += [
        "eigenvalues of the block Gram matrix over the number of signals, and the time to learn the first",
        *aligned(rows),
    ]
    if len(found.kinds) > len(kinds):
        lines.append(f"  and {len(found.kinds) - len(kinds)} kinds more")
    return "\n".join(lines)


def picture(found: IrrepSpectrum, path: str | PathLike, title: str | None) -> Path:
    """Stacked shares of the power against layers; eigenvalues against their rank, a line for each kind."""
    plt = require_matplotlib("IrrepSpectrum.plot")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4), constrained_layout=True)
    order = np.argsort(-found.power.max(axis=0), kind="stable")
    shown = sorted(order[:10])
    total = found.power.sum(axis=1) + np.nan_to_num(found.rest)
    shares = [found.power[:, k] / total for k in shown]
    shares.append(np.maximum(1 - np.sum(shares, axis=0), 0))
    colours = [*plt.get_cmap("viridis")(np.linspace(0, 1, len(shown))), (0.8, 0.8, 0.8, 1)]
    labels = [*(found.labels[k] for k in shown), "others"]
    bottom = np.zeros(len(found.layers))
    for share, colour, label in zip(shares, colours, labels, strict=True):
        left.bar(np.arange(len(found.layers)), share, bottom=bottom, color=colour, label=label, width=0.9)
        bottom = bottom + share
    left.set_xticks(np.arange(len(found.layers)), found.layers, rotation=45, ha="right", fontsize=8)
    left.set(ylabel="share of the power", ylim=(0, 1), title="Power of the features after each layer")
    left.legend(fontsize=7, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False)
    for k, colour in zip(shown, colours, strict=False):
        values = found.eigenvalues[k][:MOST_EIGENVALUES]
        values = values[values > 1e-12 * max(float(values[0]), 1e-300)]
        right.plot(np.arange(1, len(values) + 1), values, "o-", ms=3, lw=1, color=colour, label=found.labels[k])
    right.set_xscale("log")
    right.set_yscale("log")
    right.grid(True, alpha=0.3)
    right.set(
        xlabel="rank in its kind",
        ylabel="eigenvalue (1 / time to learn)",
        title="Eigenvalues of each kind's block Gram matrix",
    )
    right.legend(fontsize=7)
    figure.suptitle(title or f"{found.kernel}, {found.signals} signals", fontsize=10)
    path = Path(path)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
