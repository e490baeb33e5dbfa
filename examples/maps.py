"""Maps of random fields: which spectrum, what spectral index, and what is where the map has a gap; SO(3) kernels beside an MLP's.

    python examples/maps.py

Three questions on Gaussian random fields that are made here; none has a preferred direction, and gaps are anywhere:

1. Classification. Half of the fields have C_l falling as (l + 1)^-2, half as (l + 1)^-2.6, with the same variance. Which is which?
2. Regression. C_l falls as (l + 1)^-index, with an index from 1.5 to 3.5. Each map has noise, and a cap of a third of the sphere is missing,
   somewhere else in each: coefficients are fitted to what is left by ``SphereSignal.from_map(mask=)`` with a ridge. Which index?
3. Interpolation. Such a cap is missing from fields without noise. What is the field's mean over the cap, and the mean of the field times the
   direction away from the cap's centre, a vector? The input has two channels, the visible part and the mask; the vector is read by an
   equivariant readout, ``TensorKernelRegressor``.

Compared are the kernels of SO(3) networks (products of two channels, which read power spectra, and ReLU for the mean over the gap) and of a fully
connected one on the same coefficients. For the index also what one can do by hand: a line through the logarithm
of the power spectrum. Everything is tested on fields that were not trained on. The defaults take a minute on one core. Prints a table,
writes maps.png and maps.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import so3ntk
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import (
    not_negative,
    output_folder,
    positive,
    read_options,
    replace_file,
    run_example,
    settings,
    write_json,
)

#: Half-angle of a cap of a third of the sphere.
CAP = float(np.arccos(1 / 3))
NOISE = 0.2


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--bandlimit", type=positive, default=8, help="degrees of the fields (8)")
    add("--sizes", type=positive, nargs="+", default=[50, 100, 200, 400], help="training fields")
    add("--test", type=positive, default=200, help="test fields (200)")
    add("--seed", type=not_negative, default=0, help="of the fields (0)")
    add("--out", default="so3ntk-results/maps", help="folder of the results")
    return read_options(parser, {"bandlimit": 5, "sizes": [50, 100], "test": 50})


def fields(indices: np.ndarray, bandlimit: int, rng: np.random.Generator) -> so3ntk.SphereSignal:
    """Gaussian fields, C_l proportional to (l + 1)^-index, with unit variance on average."""
    degrees = np.repeat(np.arange(bandlimit), 2 * np.arange(bandlimit) + 1)
    power = (degrees + 1.0) ** -indices[:, None]
    power *= 4 * np.pi / power.sum(axis=1, keepdims=True)
    values = rng.normal(size=power.shape) * np.sqrt(power)
    return so3ntk.SphereSignal(values[..., None], bandlimit)


def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latitudes and longitudes of five degrees, and the directions (rows, columns, 3)."""
    lat, lon = np.arange(-87.5, 90, 5), np.arange(0.0, 360, 5)
    up, along = np.meshgrid(np.radians(lat), np.radians(lon), indexing="ij")
    return lat, lon, np.stack([np.cos(up) * np.cos(along), np.cos(up) * np.sin(along), np.sin(up)], axis=-1)


def centres(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random directions (n, 3)."""
    vectors = rng.normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pooled(*layers: Any) -> so3ntk.Network:
    """A network of SO(3)."""
    return so3ntk.serial(so3ntk.Lift(), *layers, so3ntk.GroupPool(), so3ntk.Dense())


def networks(nonlinearity: Any) -> dict[str, so3ntk.Network]:
    """The two kinds that are compared."""
    mlp = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense(), so3ntk.Relu(), so3ntk.Dense())
    return {"SO(3)": pooled(nonlinearity), "MLP": mlp}


def classification(args: argparse.Namespace, rng: np.random.Generator) -> dict[str, list[float]]:
    """Shares of test fields whose spectrum is told right."""
    n = max(args.sizes) + args.test
    labels = rng.integers(0, 2, n)
    x = fields(np.where(labels == 1, 2.6, 2.0), args.bandlimit, rng)
    results: dict[str, list[float]] = {}
    for name, net in networks(so3ntk.Products([0, 0, 1.0])).items():
        results[name] = []
        for size in args.sizes:
            model = so3ntk.KernelClassifier(net, progress=False).fit(x[:size], labels[:size])
            results[name].append(float(np.mean(model.predict(x[-args.test :]) == labels[-args.test :])))
    return results


def index(args: argparse.Namespace, rng: np.random.Generator) -> dict[str, list[float]]:
    """Root mean square errors of the spectral index from noisy, masked maps."""
    n = max(args.sizes) + args.test
    wanted = rng.uniform(1.5, 3.5, n)
    lat, lon, directions = grid()
    maps = fields(wanted, args.bandlimit, rng).to_map(lat, lon) + NOISE * rng.normal(size=(n, *directions.shape[:2], 1))
    missing = np.einsum("nc,ijc->nij", centres(n, rng), directions) > np.cos(CAP)
    x = so3ntk.SphereSignal.from_map(maps, lat=lat, lon=lon, mask=missing, bandlimit=args.bandlimit, ridge=1e-2)
    results: dict[str, list[float]] = {}
    for name, net in networks(so3ntk.Products([0, 0, 1.0])).items():
        results[name] = []
        for size in args.sizes:
            model = so3ntk.KernelRegressor(net, progress=False).fit(x[:size], wanted[:size])
            results[name].append(rms(model.predict(x[-args.test :]) - wanted[-args.test :]))
    spectra = np.log(np.asarray(x.power_spectrum())[:, 1:] / (2 * np.arange(1, args.bandlimit) + 1))
    slopes = np.polyfit(np.log(np.arange(2, args.bandlimit + 1)), spectra.T, 1)[0]
    results["line"] = []
    for size in args.sizes:  # a line's slope, corrected for noise and gaps by a fit on the same training maps
        correction = np.polyfit(slopes[:size], wanted[:size], 1)
        results["line"].append(rms(np.polyval(correction, slopes[-args.test :]) - wanted[-args.test :]))
    results["mean"] = [rms(wanted[-args.test :] - wanted[:size].mean()) for size in args.sizes]
    return results


def interpolation(args: argparse.Namespace, rng: np.random.Generator) -> dict[str, dict[str, list[float]]]:
    """Root mean square errors of the field's mean over the gap, and of its dipole there, per component."""
    n = max(args.sizes) + args.test
    whole = fields(np.full(n, 2.5), args.bandlimit, rng)
    lat, lon, directions = grid()
    towards = centres(n, rng)
    cosines = np.einsum("nc,ijc->nij", towards, directions)
    missing, maps = cosines > np.cos(CAP), whole.to_map(lat, lon)[..., 0]
    areas = np.cos(np.radians(lat))[:, None] * missing
    areas = areas / areas.sum(axis=(1, 2), keepdims=True)
    means = np.einsum("nij,nij->n", areas, maps)
    away = directions - cosines[..., None] * towards[:, None, None, :]
    dipoles = np.einsum("nij,nij,nijc->nc", areas, maps, away)
    both = np.stack([np.where(missing, 0, maps), missing], axis=-1)
    x = so3ntk.SphereSignal.from_map(both, lat=lat, lon=lon, bandlimit=args.bandlimit)
    results: dict[str, dict[str, list[float]]] = {"mean over the gap": {}, "dipole of the gap": {}}
    for name, net in networks(so3ntk.Relu()).items():
        found = results["mean over the gap"][name] = []
        for size in args.sizes:
            model = so3ntk.KernelRegressor(net, progress=False).fit(x[:size], means[:size])
            found.append(rms(model.predict(x[-args.test :]) - means[-args.test :]))
    results["mean over the gap"]["zero"] = [rms(means[-args.test :])] * len(args.sizes)
    vectors = results["dipole of the gap"]
    net = so3ntk.serial(so3ntk.Lift(), so3ntk.Products([0, 0, 1.0]), so3ntk.IrrepPool(1))
    vectors["SO(3)"], vectors["MLP"] = [], []
    mlp = networks(so3ntk.Relu())["MLP"]
    for size in args.sizes:
        model: Any = so3ntk.TensorKernelRegressor(net).fit(x[:size], dipoles[:size])
        vectors["SO(3)"].append(rms(model.predict(x[-args.test :]) - dipoles[-args.test :]))
        model = so3ntk.KernelRegressor(mlp, progress=False).fit(x[:size], dipoles[:size])
        vectors["MLP"].append(rms(model.predict(x[-args.test :]) - dipoles[-args.test :]))
    vectors["zero"] = [rms(dipoles[-args.test :])] * len(args.sizes)
    return results


def rms(errors: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def run(args: argparse.Namespace) -> None:
    """Make, learn, print, write."""
    plt = require_matplotlib("maps.py")
    jax.config.update("jax_enable_x64", True)
    out, started = output_folder(args.out), time.perf_counter()
    rng = np.random.default_rng(args.seed)
    tables = {"which spectrum: share right": classification(args, rng), "spectral index: error": index(args, rng)}
    tables |= {f"{name}: error": table for name, table in interpolation(args, rng).items()}
    for title, table in tables.items():
        print(f"\n{title:28}" + "".join(f"{size:>9}" for size in args.sizes))
        for name, values in table.items():
            print(f"{name:28}" + "".join(f"{value:>9.3f}" for value in values))
    write_json(
        out / "maps.json", {"settings": settings(args), "tables": tables, "seconds": time.perf_counter() - started}
    )
    figure, axes = plt.subplots(1, len(tables), figsize=(3.4 * len(tables), 3.4), layout="constrained")
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        for name, values in table.items():
            flat = name in ("zero", "mean")
            axis.plot(args.sizes, values, "k:" if flat else "o-", label=name)
        axis.set(xscale="log", xlabel="training fields", title=title)
        axis.set_xticks(args.sizes, [str(size) for size in args.sizes])
        axis.minorticks_off()
        axis.set_ylim(bottom=0.4 if "share" in title else 0)
        axis.legend(fontsize=8)
    picture = Path(out) / "maps.png"
    replace_file(picture, lambda temporary: figure.savefig(temporary, dpi=150, format="png"))
    plt.close(figure)
    print(f"\n{picture}")


if __name__ == "__main__":
    run_example(run, read_arguments)
