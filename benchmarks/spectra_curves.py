"""Learning curves predicted from one sample against measured ones: QM9, dipoles, digits, MNIST.

    python benchmarks/spectra_curves.py --results FILE --grams DIR --qm9 qm9_5000.npz --mnist mnist.npz --fragments amons_forces.npz
    python benchmarks/spectra_curves.py --results FILE --grams DIR --data digits --plot DIR
    python benchmarks/spectra_curves.py --results FILE --grams DIR --data        (only the table of what is there)

Each run is a JSON line in the results file; runs that have a line are not repeated. A run is a draw: a permutation of the data, of which the
last inputs are the test set, the first ``sample`` what the curve is predicted from, and the first N what is trained on, at N from an eighth
of the sample to four times it. Regressions without an intercept, at ridges of 1e-1, 1e-2, 1e-3 of the mean of the kernel's diagonal. The constants of the method (``so3ntk/learning/curves``) were set while looking
at these four data sets, so that their tables say how well it fits them, not what it does elsewhere. Tables: predicted over measured root mean
square errors, both means over draws (of mean squares); of the sizes beyond the sample, how often the band of a draw holds the measured mean, and how wide it is.

qm9: 5,000 molecules, U0 in kcal/mol less the composition that is fitted to the sample, the documented kernel for energies in double precision, test 1,000.
dipoles: 1,600 fragments, kernel and environments of examples/dipoles.py, test 400. digits: scikit-learn's 1,797, centred one-hot targets, a C4 network of two
ReLU layers with global filters, test 397. mnist: 10,000 of MNIST's training images, a fully connected network of two ReLU layers, test 2,000.
Gram matrices are kept in --grams; the first run of each data set computes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from records import Results, Run, peak_bytes, surroundings

#: Ridges in units of the mean of the kernel's diagonal.
RIDGES = (1e-1, 1e-2, 1e-3)
#: Sizes in units of the sample.
SHARES = (0.125, 0.25, 0.5, 1, 2, 4)
#: Inputs of the sample, and all of the data.
SAMPLES = {"qm9": (1000, 5000), "dipoles": (300, 1600), "digits": (350, 1797), "mnist": (2000, 10000)}


class Data(NamedTuple):
    """A Gram matrix, blocks for vectors; targets (n, k); columns whose fit to the sample is subtracted, or None."""

    kernel: np.ndarray
    targets: np.ndarray
    columns: np.ndarray | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--results", required=True, metavar="FILE", help="JSON lines; appended to")
    add("--grams", required=True, metavar="DIR", help="folder of Gram matrices")
    add(
        "--data",
        nargs="*",
        default=list(SAMPLES),
        choices=[*SAMPLES],
        metavar="NAME",
        help="of qm9, dipoles, digits, mnist",
    )
    add("--draws", type=int, default=5)
    add("--plot", metavar="DIR", help="folder for a picture of the curves")
    for name, what in (("qm9", "QM9"), ("mnist", "MNIST"), ("fragments", "amons_forces.npz, of the dipoles")):
        add(f"--{name}", metavar="FILE", help=f"{what}, an npz file")
    if not run(parser.parse_args()):
        parser.exit(1, "some runs failed: see their tracebacks above; they are repeated by the next call.\n")


def run(args: argparse.Namespace) -> bool:
    """Measure what is missing, print the tables, draw; whether all runs succeeded."""
    results = Results(args.results)
    paths = {"qm9": args.qm9, "mnist": args.mnist, "dipoles": args.fragments, "digits": None}
    runs = [
        {"part": "curves", "data": name, "sample": SAMPLES[name][0], "ridges": list(RIDGES), "draw": draw}
        for name in args.data
        for draw in range(args.draws)
    ]
    complete = results.complete(runs, partial(measure, paths=paths, grams=args.grams))
    records = [record for record in results.read() if record["run"].get("part") == "curves"]
    print_tables(records)
    if args.plot and records:
        draw_curves(records, Path(args.plot))
    return complete


def measure(run: Run, paths: dict[str, str | None], grams: str) -> Run:
    """One draw: predicted and measured errors at all sizes and ridges."""
    from so3ntk.spectra import spectrum

    name, sample = run["data"], run["sample"]
    data = read(name, paths[name], Path(grams))
    order = np.random.default_rng(run["draw"]).permutation(len(data.targets))
    first, test = order[:sample], order[4 * sample :]
    y = data.targets
    if data.columns is not None:
        y = y - data.columns @ np.linalg.lstsq(data.columns[first], y[first], rcond=None)[0]
    diagonal = np.einsum("ii...->i...", data.kernel)
    unit = float(np.mean(np.einsum("naa->na", diagonal) if diagonal.ndim == 3 else diagonal))
    found = spectrum(
        np.ascontiguousarray(data.kernel[np.ix_(first, first)]), y[first] if y.shape[1] > 1 else y[first, 0]
    )
    sizes, curves = [round(share * sample) for share in SHARES], []
    for ridge in run["ridges"]:
        curve = found.learning_curve(sizes, ridge * unit)
        measured = [_error(data.kernel, y, order[:size], test, ridge * unit) for size in sizes]
        curves.append({"ridge": ridge, "measured": measured, **curve.as_dict()})
    return {"curves": curves, "test": len(test), "peak": peak_bytes(), **surroundings(("jax", "numpy", "scipy"))}


def _error(kernel: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, ridge: float) -> float:
    """The root mean square test error of a regression without an intercept."""
    import scipy.linalg

    from so3ntk.learning.block_ridge import as_matrix

    inside, cross, targets = kernel[np.ix_(train, train)], kernel[np.ix_(test, train)], y[train]
    if kernel.ndim == 4:
        inside, cross, targets = as_matrix(inside), as_matrix(cross), targets.reshape(-1, 1)
    inside = np.array(inside, np.float64)
    inside[np.diag_indices(len(inside))] += ridge
    dual = scipy.linalg.cho_solve(scipy.linalg.cho_factor(inside, lower=True, overwrite_a=True), targets)
    return float(np.sqrt(np.mean((cross @ dual - y[test].reshape(len(cross), -1)) ** 2)))


def read(name: str, path: str | None, grams: Path) -> Data:
    """The data set, whose kernel is computed where it is not kept."""
    if path is None and name != "digits":
        raise ValueError(f"{name}: pass its file, see --help.")
    grams.mkdir(parents=True, exist_ok=True)
    problem, targets, columns = READERS[name](path)
    file = grams / f"{name}.npy"
    if not file.exists():
        np.save(grams / f"{name}-part.npy", _kernel(name, *problem()))
        (grams / f"{name}-part.npy").replace(file)
    return Data(np.load(file, mmap_mode="r"), targets, columns)


#: A function that gives network and inputs; targets; columns.
Read = tuple[Callable[[], tuple[Any, Any]], np.ndarray, np.ndarray | None]


def _kernel(name: str, net: Any, inputs: Any) -> np.ndarray:
    import so3ntk

    if name == "dipoles":
        return so3ntk.irrep_grams(net, (1,), inputs, progress=True)[1]
    return np.asarray(so3ntk.gram(net, inputs, get="ntk", memory="1GiB"))


def _qm9(path: str) -> Read:
    import jax

    from so3ntk.molecules import environments, load_qm9
    from so3ntk.molecules.energies import ENERGY_ENVIRONMENTS, energy_network

    jax.config.update("jax_enable_x64", True)
    data = load_qm9(SAMPLES["qm9"][1], seed=0, path=path)
    symbols = [atoms.get_chemical_symbols() for atoms in data.atoms]
    species = tuple(sorted({symbol for molecule in symbols for symbol in molecule}))
    columns = np.array([[molecule.count(symbol) for symbol in species] for molecule in symbols], float)

    def problem() -> tuple[Any, Any]:
        x = environments(data.atoms, species=species, **ENERGY_ENVIRONMENTS)
        return energy_network().calibrate(x[:50]), x

    return problem, data.targets[:, None] / 0.0433641153, columns


def _dipoles(path: str) -> Read:
    import jax

    jax.config.update("jax_enable_x64", True)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    import dipoles

    dipoles.OPTIONS.update(dipoles.ENERGY_ENVIRONMENTS, bandlimit=4, places=20.0)
    train, test = dipoles.read_data(path, "dipole", 800)
    every = dipoles.Molecules(train.atoms + test.atoms, np.concatenate([train.dipoles, test.dipoles]))

    def problem() -> tuple[Any, Any]:
        net = dipoles.network(argparse.Namespace(group="O3", b_std=1.3))
        return net, dipoles._environments(every.atoms, every)

    return problem, every.dipoles[:, [1, 2, 0]], None  # y, z, x, as the harmonics of l = 1


def _digits(path: None) -> Read:
    from planar.datasets.source import load_images
    from planar.experiments import image_network

    data = load_images(path)
    targets = np.eye(10)[data.labels] - 0.1
    return lambda: (image_network("C4", 2, None, "CIRCULAR"), np.asarray(data.images)), targets, None


def _mnist(path: str) -> Read:
    from so3ntk import Dense, Flatten, Relu, serial

    with np.load(path, allow_pickle=False) as file:
        images, labels = file["x_train"], file["y_train"]
    rows = np.random.default_rng(0).permutation(len(images))[: SAMPLES["mnist"][1]]
    hidden = [layer for _ in range(2) for layer in (Dense(W_std=2**0.5, b_std=0.1), Relu())]
    x = (images[rows].reshape(len(rows), -1) / 255).astype(np.float32)
    return lambda: (serial(Flatten(), *hidden, Dense()), x), np.eye(10)[labels[rows]] - 0.1, None


READERS = {"qm9": _qm9, "dipoles": _dipoles, "digits": _digits, "mnist": _mnist}


def _arrays(records: list[Run], name: str) -> dict[str, np.ndarray]:
    """Of one data set: (draws, ridges, sizes)."""
    some = [record for record in records if record["run"]["data"] == name]
    keys = ("measured", "rmse", "low", "high", "plain_rmse", "resolved")
    return {key: np.array([[curve[key] for curve in record["curves"]] for record in some], float) for key in keys}


def _mean(values: np.ndarray) -> np.ndarray:
    """Of root mean squares over draws."""
    return np.sqrt(np.mean(values**2, axis=0))


def print_tables(records: list[Run]) -> None:
    """Predicted over measured, the formula alone in brackets; bands beyond the sample; medians."""
    inside, widths = [], []
    for name in dict.fromkeys(record["run"]["data"] for record in records):
        found, sample = _arrays(records, name), SAMPLES[name][0]
        measured = _mean(found["measured"])
        ratio, plain = _mean(found["rmse"]) / measured, _mean(found["plain_rmse"]) / measured
        print(
            f"\n{name}, predicted from {sample}, {len(found['rmse'])} draws: predicted / measured (formula alone / measured)"
        )
        print(f"{'ridge':>8}" + "".join(f"{round(share * sample):>16}" for share in SHARES))
        for row, ridge in enumerate(RIDGES):
            print(
                f"{ridge:>8.0e}" + "".join(f"{a:>8.3f} ({b:.3f})" for a, b in zip(ratio[row], plain[row], strict=True))
            )
        print(f"{'rmse':>8}" + "".join(f"{value:>16.4g}" for value in measured[-1]) + "   (measured, smallest ridge)")
        beyond = slice(len(SHARES) - 2, None)
        held = ((found["low"] < measured) & (measured < found["high"]))[:, :, beyond]
        width = (found["high"] / found["rmse"] - 1)[:, :, beyond]
        inside.append(held)
        widths.append(width)
        half = np.abs(np.log(ratio[:, :3]))
        print(
            f"  up to half of the sample: largest |log ratio| {half.max():.3f}, median {np.median(half):.3f}; beyond it the band holds {held.mean():.0%} "
            f"of {held.size}, half width {np.median(width):.1%} (median), {width.max():.1%} (largest)"
        )
    if inside:
        print(
            f"\nall: {np.mean(np.concatenate([each.ravel() for each in inside])):.0%} of bands beyond the sample hold the measured mean"
        )


def draw_curves(records: list[Run], folder: Path) -> None:
    """A panel for each data set: lines are predicted, dashed beyond the sample; points are measured."""
    from so3ntk.basics.plots import TICKS, require_matplotlib

    plt = require_matplotlib("benchmarks/spectra_curves.py")
    names = list(dict.fromkeys(record["run"]["data"] for record in records))
    figure, row = plt.subplots(1, len(names), figsize=(4.4 * len(names), 4), constrained_layout=True, squeeze=False)
    for axes, name in zip(row[0], names, strict=True):
        found, sample = _arrays(records, name), SAMPLES[name][0]
        sizes = np.array([round(share * sample) for share in SHARES])
        for index, ridge in enumerate(RIDGES):
            low, high = (np.exp(np.log(found[key][:, index]).mean(axis=0)) for key in ("low", "high"))
            (line,) = axes.loglog(sizes, _mean(found["rmse"])[index], "-", label=f"ridge {ridge:g}")
            axes.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            axes.loglog(sizes, _mean(found["measured"])[index], "o", ms=4, color=line.get_color())
        axes.axvline(sample, color="gray", lw=0.8, ls=":")
        axes.set(title=f"{name}, predicted from {sample}", xlabel="training inputs", ylabel="root mean square error")
        low, high = axes.get_ylim()
        ticks = [tick for tick in TICKS if low < tick < high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.grid(True, alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "learning_curves.png", dpi=150)
    plt.close(figure)
    print(folder / "learning_curves.png")


if __name__ == "__main__":
    main()
