"""Energies and forces: our potential, and FCHL19's force kernels by kernelforge, on the same fragments or trajectories.

    python benchmarks/learning_forces.py --fragments amons_forces.npz --results FILE [--methods so3 ...] [--sizes 60 200 800]
    python benchmarks/learning_forces.py --trajectory ethanol --folder DIR --results FILE --sizes 200 1000 --test 400

Install ``so3ntk[molecules,peers]``. Of fragments, trained on ``np.random.default_rng(0).permutation(800)[:size]`` of the file's training part,
tested on ``default_rng(1).permutation(800)[:40]`` of its validation part, the same fragments in other distortions. A trajectory
(trajectories.py) of 2,400 frames is made in DIR if it is not there; training frames are drawn from all, test frames from the others. All methods fit
energies and forces together, with an energy for each element in the same fit and without a penalty, and choose one noise for
energies and one for forces by the errors of the first 60 training molecules, each left out with its forces
(``so3ntk.molecules.forces.noise``); nothing is chosen on test molecules.

Methods: ``so3``, so3ntk.molecules.EnergyForceRegressor as it comes, with 6,000 inducing functions where energies and forces are more than
12,000 numbers; ``zero``; ``fchl19-shipped-S`` and ``fchl19-tuned-S``, by the
sigma S of their kernel, with the parameters of peers.py. Each is a process of its own and a JSON line in the results file; runs
that have a line are not repeated. Seconds are of everything, from molecules in memory to predictions, compilation included; milliseconds
those of the energy and forces of one structure, as in molecular dynamics.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from peers import FCHL19_SHIPPED, FCHL19_TUNED
from records import Results, Run, Stopwatch, peak_bytes, surroundings
from trajectories import trajectory

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
#: Energies and components of forces beyond which our potential has a basis of so many functions.
ROWS, INDUCING = 12_000, 6000
#: Structures that are predicted one by one, to see how long each takes.
ONE_BY_ONE = 20


class Predicted(NamedTuple):
    """Energies, all forces in a row, the noises that were chosen, what predicts a frame, and stresses where there are any."""

    energies: np.ndarray
    forces: np.ndarray
    noises: tuple[float, ...]
    one: Callable[[Frames], Any] = lambda frame: None
    stresses: Any = None


def so3(train: Frames, test: Frames, run: Run) -> Predicted:
    rows = len(train) + 3 * sum(map(len, train.atoms))
    model = EnergyForceRegressor(inducing=INDUCING if rows > ROWS else None)
    model.fit(train.atoms, train.energies, train.forces, train.stresses)
    found = model.predict(test.atoms)
    noises = tuple(n for n in (model.energy_noise_, model.force_noise_, model.stress_noise_) if n is not None)
    forces = np.concatenate(found.forces).ravel()
    return Predicted(found.energies, forces, noises, lambda frame: model.predict(frame.atoms), found.stresses)


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
    known = _represented(train, elements, pad, settings)
    gram = _signed(local_kernels.kernel_gaussian_full_symm(*known, sigma), len(train), len(train))
    baseline = CompositionBaseline().fit(train.atoms, train.energies)
    residual = train.energies - baseline.predict(train.atoms)
    y = np.concatenate([residual, np.concatenate(train.forces).ravel()])
    targets = Targets.of(y, np.array([len(molecule) for molecule in train.atoms]), composition_basis(train.atoms))
    part, rows = targets.first(min(len(train), SELECTION))
    some = gram[np.ix_(rows, rows)]
    noises = choose_noises(some, part, relative_candidates(some, part))
    np.einsum("ii->i", gram)[:] += targets.noise(noises)
    factor = scipy.linalg.cholesky(gram.T, lower=True, overwrite_a=True, check_finite=False)  # in place: LAPACK's order
    fit = solve(factor, targets)
    baseline.add(train.atoms, targets.basis @ fit.composition)
    x2, dx2, q2, n2 = known

    def predict(frames: Frames) -> np.ndarray:
        x1, dx1, q1, n1 = _represented(frames, elements, pad, settings)
        cross = local_kernels.kernel_gaussian_full(x1, dx1, x2, dx2, q1, q2, n1, n2, sigma)
        found = _signed(cross, len(frames), len(train)) @ fit.alpha
        found[: len(frames)] += baseline.predict(frames.atoms)
        return found

    found = predict(test)
    return Predicted(found[: len(test)], found[len(test) :], noises, predict)


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


def draw(run: Run, args: argparse.Namespace) -> tuple[Frames, Frames]:
    """Training and test frames."""
    if args.fragments is not None:
        train, valid = (read_frames(args.fragments, unit="kcal/mol", part=part) for part in ("train", "valid"))
        train = train[np.random.default_rng(0).permutation(len(train))[: run["size"]]]
        return train, valid[np.random.default_rng(1).permutation(len(valid))[: run["test"]]]
    frames = trajectory(args.trajectory, Path(args.folder))
    order = np.random.default_rng(0).permutation(len(frames))
    return frames[order[: run["size"]]], frames[order[len(order) - run["test"] :]]


def measure(run: Run, args: argparse.Namespace) -> Run:
    """The record of a run."""
    train, test = draw(run, args)
    before, clock = peak_bytes(), Stopwatch()
    with clock("total"):
        found = METHODS[run["method"]](train, test, run)
    found.one(test[0])
    with clock("one by one"):
        for row in range(ONE_BY_ONE):
            found.one(test[row])
    forces = found.forces - np.concatenate(test.forces).ravel()
    energies = found.energies - test.energies
    stresses = {}
    if found.stresses is not None and all(own is not None for own in test.stresses):
        stresses = {"stress_mae": float(np.abs(np.array(found.stresses) - np.array(test.stresses)).mean())}
    return {
        "energy_mae": float(np.abs(energies).mean()), "force_mae": float(np.abs(forces).mean()),
        "force_rmse": float(np.sqrt((forces**2).mean())), "noises": list(found.noises), "seconds": clock.seconds,
        "milliseconds": 1e3 * clock.seconds["one by one"] / ONE_BY_ONE, **stresses, "unit": test.unit,
        "peak_mib": {"before": before // MIB, "whole": peak_bytes() // MIB},
        **surroundings(["numpy", "jax", "kernelforge"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fragments", metavar="FILE", help="amons_forces.npz")
    source.add_argument("--trajectory", choices=("ethanol", "acetaldehyde", "copper"), help="made by ase, in --folder")
    parser.add_argument("--folder", default="so3ntk-results/trajectories", metavar="DIR", help="of trajectories")
    parser.add_argument("--results", required=True, metavar="FILE", help="JSON lines; appended to")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=[*METHODS], metavar="METHOD")
    parser.add_argument("--sizes", type=int, nargs="+", default=[60, 200], help="training molecules")
    parser.add_argument("--test", type=int, default=40, help="test molecules")
    args = parser.parse_args()
    settings = {"selection": SELECTION, "noises": [float(RELATIVE_NOISES[0]), float(RELATIVE_NOISES[-1])]}
    settings |= {} if args.trajectory is None else {"trajectory": args.trajectory}
    runs = [{"method": m, "size": n, "test": args.test, **settings} for n in args.sizes for m in args.methods]
    results = Results(args.results)
    complete = results.complete(runs, partial(measure, args=args))
    units, scale = ("kcal/mol, kcal/mol/A", 1) if args.trajectory is None else ("meV, meV/A", 1000)
    print(f"{'':18}{'N':>6}{'energies':>10}{'forces':>9}{'rms':>9}{'seconds':>9}{'ms each':>9}{'MiB':>7}   ({units})")
    for record in results.of(runs):
        run = record["run"]
        print(f"{run['method']:18}{run['size']:>6}{scale * record['energy_mae']:>10.2f}{scale * record['force_mae']:>9.3f}"
              f"{scale * record['force_rmse']:>9.3f}{record['seconds']['total']:>9.1f}{record['milliseconds']:>9.1f}"
              f"{record['peak_mib']['whole']:>7}")  # fmt: skip
    if not complete:
        parser.exit(1, "some runs failed: see their tracebacks above; they are repeated by the next call.\n")


if __name__ == "__main__":
    main()
