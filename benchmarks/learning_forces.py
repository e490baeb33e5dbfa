"""Energies and forces of fragments (amons_forces.npz): our potential, and FCHL19's force kernels by kernelforge, on the same molecules.

    python benchmarks/learning_forces.py --fragments amons_forces.npz --results FILE [--methods so3 ...] [--sizes 60 200]

Install ``so3ntk[molecules,peers]``. Trained on ``np.random.default_rng(0).permutation(800)[:size]`` of the file's training part,
tested on ``default_rng(1).permutation(800)[:40]`` of its validation part, the same fragments in other distortions. All methods fit
energies and forces together, with an energy for each element in the same fit and without a penalty, and choose one noise for
energies and one for forces by the errors of the first 60 training molecules, each left out with its forces
(``so3ntk.molecules.forces.noise``); nothing is chosen on test molecules.

Methods: ``so3``, so3ntk.molecules.EnergyForceRegressor as it comes; ``zero``; ``fchl19-shipped-S`` and ``fchl19-tuned-S``, by the
sigma S of their kernel, with the parameters of peers.py. Each is a process of its own and a JSON line in the results file; runs
that have a line are not repeated. Seconds are of everything, from molecules in memory to predictions, compilation included.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from peers import FCHL19_SHIPPED, FCHL19_TUNED
from records import Results, Run, Stopwatch, peak_bytes, surroundings

from so3ntk.molecules import CompositionBaseline, EnergyForceRegressor, Frames, read_frames
from so3ntk.molecules.forces.noise import (
    RELATIVE_NOISES,
    Targets,
    choose_noises,
    composition_basis,
    relative_candidates,
    solve,
)

MIB, SELECTION = 2**20, 60


class Predicted(NamedTuple):
    """Energies, all forces in a row, and the noises that were chosen."""

    energies: np.ndarray
    forces: np.ndarray
    noises: tuple[float, ...]


def so3(train: Frames, test: Frames, run: Run) -> Predicted:
    model = EnergyForceRegressor().fit(train.atoms, train.energies, train.forces)
    found = model.predict(test.atoms)
    return Predicted(
        found.energies, np.concatenate(found.forces).ravel(), (model.energy_noise_, model.force_noise_ or 0.0)
    )


def zero(train: Frames, test: Frames, run: Run) -> Predicted:
    baseline = CompositionBaseline().fit(train.atoms, train.energies)
    return Predicted(baseline.predict(test.atoms), np.zeros(3 * sum(map(len, test.atoms))), ())


def fchl19(train: Frames, test: Frames, run: Run) -> Predicted:
    """Gaussian kernels of FCHL19's vectors, and their derivatives."""
    from kernelforge import local_kernels

    settings = {"tuned": FCHL19_TUNED, "shipped": FCHL19_SHIPPED}[run["method"].split("-")[1]]
    sigma = float(run["method"].split("-")[2])
    elements = sorted({int(z) for molecule in train.atoms for z in molecule.numbers})
    pad = max(len(molecule) for molecule in (*train.atoms, *test.atoms))
    known, other = (_represented(data, elements, pad, settings) for data in (train, test))
    gram = _signed(local_kernels.kernel_gaussian_full_symm(*known, sigma), len(train), len(train))
    baseline = CompositionBaseline().fit(train.atoms, train.energies)
    residual = train.energies - baseline.predict(train.atoms)
    y = np.concatenate([residual, np.concatenate(train.forces).ravel()])
    targets = Targets.of(y, np.array([len(molecule) for molecule in train.atoms]), composition_basis(train.atoms))
    part, rows = targets.first(min(len(train), SELECTION))
    some = gram[np.ix_(rows, rows)]
    noises = choose_noises(some, part, relative_candidates(some, part))
    np.einsum("ii->i", gram)[:] += targets.noise(noises)
    factor = scipy.linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    fit = solve(factor, targets)
    baseline.add(train.atoms, targets.basis @ fit.composition)
    (x1, dx1, q1, n1), (x2, dx2, q2, n2) = other, known
    cross = _signed(local_kernels.kernel_gaussian_full(x1, dx1, x2, dx2, q1, q2, n1, n2, sigma), len(test), len(train))
    found = cross @ fit.alpha
    return Predicted(found[: len(test)] + baseline.predict(test.atoms), found[len(test) :], noises)


def _represented(data: Frames, elements: list[int], pad: int, settings: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Vectors (n, atoms, d), their derivatives (n, atoms, d, 3 atoms), charges and sizes, padded."""
    from kernelforge.fchl19_repr import generate_fchl_acsf_and_gradients

    sizes = np.array([len(molecule) for molecule in data.atoms], np.int32)
    x = dx = None
    charges = np.zeros((len(data), pad), np.int32)
    for row, molecule in enumerate(data.atoms):
        n, numbers = len(molecule), molecule.numbers.astype(np.int32)
        own, slopes = generate_fchl_acsf_and_gradients(molecule.positions, numbers, elements=elements, **settings)
        if x is None or dx is None:
            x, dx = np.zeros((len(data), pad, own.shape[1])), np.zeros((len(data), pad, own.shape[1], 3 * pad))
        x[row, :n], dx[row, :n, :, : 3 * n], charges[row, :n] = own, slopes.reshape(n, own.shape[1], 3 * n), numbers
    assert x is not None
    assert dx is not None
    return x, dx, charges, sizes


def _signed(kernel: np.ndarray, n: int, m: int) -> np.ndarray:
    """Derivatives in the positions as covariances of forces, which are minus these."""
    kernel[n:, :m] *= -1
    kernel[:n, m:] *= -1
    return kernel


METHODS: dict[str, Callable[[Frames, Frames, Run], Predicted]] = {
    "zero": zero, "so3": so3,
    **{f"fchl19-{name}-{sigma}": fchl19 for name in ("tuned", "shipped") for sigma in (2, 6, 20)},
}  # fmt: skip


def measure(run: Run, path: str) -> Run:
    """The record of a run."""
    train, valid = (read_frames(path, unit="kcal/mol", part=part) for part in ("train", "valid"))
    train = train[np.random.default_rng(0).permutation(len(train))[: run["size"]]]
    test = valid[np.random.default_rng(1).permutation(len(valid))[: run["test"]]]
    before, clock = peak_bytes(), Stopwatch()
    with clock("total"):
        found = METHODS[run["method"]](train, test, run)
    forces = found.forces - np.concatenate(test.forces).ravel()
    energies = found.energies - test.energies
    return {
        "energy_mae": float(np.abs(energies).mean()), "force_mae": float(np.abs(forces).mean()),
        "force_rmse": float(np.sqrt((forces**2).mean())), "noises": list(found.noises), "seconds": clock.seconds,
        "peak_mib": {"before": before // MIB, "whole": peak_bytes() // MIB},
        **surroundings(["numpy", "jax", "kernelforge"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fragments", required=True, metavar="FILE", help="amons_forces.npz")
    parser.add_argument("--results", required=True, metavar="FILE", help="JSON lines; appended to")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=[*METHODS], metavar="METHOD")
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 200], help="training molecules")
    parser.add_argument("--test", type=int, default=40, help="test molecules")
    args = parser.parse_args()
    settings = {"selection": SELECTION, "noises": [float(RELATIVE_NOISES[0]), float(RELATIVE_NOISES[-1])]}
    runs = [{"method": m, "size": n, "test": args.test, **settings} for n in args.sizes for m in args.methods]
    results = Results(args.results)
    complete = results.complete(runs, partial(measure, path=args.fragments))
    print(f"{'':18}{'N':>6}{'energies':>10}{'forces':>9}{'rms':>9}{'seconds':>9}{'MiB':>7}   (kcal/mol, kcal/mol/A)")
    for record in results.of(runs):
        run = record["run"]
        print(f"{run['method']:18}{run['size']:>6}{record['energy_mae']:>10.2f}{record['force_mae']:>9.3f}"
              f"{record['force_rmse']:>9.3f}{record['seconds']['total']:>9.1f}{record['peak_mib']['whole']:>7}")  # fmt: skip
    if not complete:
        parser.exit(1, "some runs failed: see their tracebacks above; they are repeated by the next call.\n")


if __name__ == "__main__":
    main()
