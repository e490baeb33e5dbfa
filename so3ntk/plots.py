"""Pictures of signals on the sphere. Needs matplotlib."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from so3ntk.basics.arguments import check_flag
from so3ntk.sphere.signals import SphereSignal


def map(
    signal: SphereSignal,
    index: int = 0,
    channel: int = 0,
    *,
    axes: Any = None,
    path: str | PathLike | None = None,
    title: str | None = None,
    label: str | None = None,
    cmap: str | None = None,
    symmetric: bool | None = None,
    points: int = 180,
) -> Any:
    """One channel of one signal as a map in Mollweide's projection, which keeps areas: north up, longitude 0 in the middle.

    Longitudes grow to the right, as on maps of the Earth. axes: matplotlib's, with projection "mollweide"; without them a
    figure is made. path: a file to write. label: what the colours are, as "temperature [K]". symmetric: whether zero is in
    the middle of the colours; by default where values have both signs. points: rows of the picture, at least 4 for a degree.

    Returns the axes. ImportError without matplotlib; IndexError for an index or a channel that is not there.
    """
    if not isinstance(signal, SphereSignal):
        raise TypeError(f"plots.map: expected a SphereSignal, got a {type(signal).__name__}.")
    if not -signal.channels <= channel < signal.channels:
        raise IndexError(f"plots.map: channel {channel} is out of range for {signal.channels} channels.")
    if axes is not None and getattr(axes, "name", None) != "mollweide":
        raise ValueError('plots.map: expected axes with projection "mollweide": plt.subplot(projection="mollweide").')
    plt = _pyplot()
    rows = max(points, 4 * signal.bandlimit)
    lat, lon = np.linspace(-90, 90, rows), np.linspace(-180, 180, 2 * rows)
    values = signal[index].to_map(lat, lon)[0, :, :, channel]
    both = (
        bool(values.min() < 0 < values.max()) if symmetric is None else check_flag(symmetric, "plots.map", "symmetric")
    )
    most = float(abs(values).max())
    limits = {"vmin": -most, "vmax": most, "cmap": cmap or "RdBu_r"} if both else {"cmap": cmap or "viridis"}
    if axes is None:
        _, axes = plt.subplots(figsize=(7.5, 4.2), constrained_layout=True, subplot_kw={"projection": "mollweide"})
    mesh = axes.pcolormesh(np.radians(lon), np.radians(lat), values, shading="gouraud", rasterized=True, **limits)
    axes.grid(True, color="k", alpha=0.2, linewidth=0.5)
    axes.tick_params(labelsize=7)
    axes.figure.colorbar(mesh, ax=axes, orientation="horizontal", shrink=0.6, aspect=35, pad=0.06, label=label or "")
    if title is not None:
        axes.set_title(title)
    if path is not None:
        axes.figure.savefig(path, dpi=150)
        if not plt.isinteractive():
            plt.close(axes.figure)
    return axes


def _pyplot() -> Any:
    """matplotlib's pyplot with the backend that the caller has: a notebook shows the picture."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots.map: pictures need matplotlib. pip install matplotlib.") from error
    return plt
