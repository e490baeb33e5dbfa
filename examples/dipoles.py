"""Learning dipole vectors: a kernel whose predictions turn with the molecule.

    python examples/dipoles.py --quick
    python examples/dipoles.py --data amons_forces.npz
    python examples/dipoles.py --data molecules.xyz --key dipole --sizes 100 200 --test 100 --seed 0
    python examples/dipoles.py --data many.xyz --sizes 5000 --inducing 2000

The network of each atom's environment, that of energies, ends in ``IrrepPool(1)``, a vector, and the dipole of a molecule is the sum
over its atoms, so that the kernel of two molecules is a block of 3 x 3: an inner product of vectors of each molecule, without a grid of
rotations or pairs of atoms. One Gram matrix of all molecules serves all training sizes and seeds; the ridge is chosen by leaving one
molecule out. A seed is a choice of training molecules. --inducing spans the functions by so many atoms: for thousands of molecules.

Beside its neighbours an atom sees its place: one more channel, whose l = 1 part is its position from the mean of its molecule's atoms. Squares
of the kernel hold the products of places and densities of neighbours, which are charges at places. Everything about the kernel was chosen by
leave-one-out errors of training molecules (100 and 400 of them; mean absolute, Debye): 0.31 and 0.21 with powers 1, 2, 4 of the distance in
place of shells, 0.233 and 0.143 with shells, 0.217 and 0.124 with places.

--data: an npz file of arrays Z_train (atoms), R_train (atoms, 3) in Angstrom, offsets_train (n + 1) and dipole_train (n, 3),
and the same for _valid, which test molecules are drawn from (the assets of PyPI's qmllib 1.2.0, small organic fragments: Debye, as water's 2.16 and
formaldehyde's 2.50 show, whose measured values are 1.85 and 2.33. Its _valid part holds the same 800 fragments as _train in other distortions: with 250 for
training a third of the test molecules are new distortions of training ones, with 800 all); or any file that ase reads, with a vector in
``atoms.info[key]`` or a calculator's dipole. There test molecules are drawn first. Charged molecules have
no dipole that is free of the origin: leave them out.

Prints a table of the mean absolute error per component beside that of predicting zero, and checks that the dipole of a
rotated molecule is the rotated dipole. Writes dipoles.png, dipoles.json. The defaults take a minute on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import so3ntk
from so3ntk.basics.plots import require_matplotlib
from so3ntk.cli.results import (
    format_table,
    not_negative,
    output_folder,
    positive,
    read_options,
    replace_file,
    settings,
    write_json,
)
from so3ntk.molecules import AtomSum, Environments, environments, load_qm9
from so3ntk.molecules.energies import ENERGY_COEFFICIENTS, ENERGY_ENVIRONMENTS

#: Candidates for the ridge, relative to the kernel's diagonal.
RIDGES = np.logspace(-8, 0, 17)
#: Pauling's, for the rule that makes dipoles where there is no file.
ELECTRONEGATIVITY = {"H": 2.20, "C": 2.55, "N": 3.04, "O": 3.44, "F": 3.98}


class Molecules(NamedTuple):
    """ase.Atoms and their dipoles (n, 3)."""

    atoms: list[Any]
    dipoles: np.ndarray


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--data",
        metavar="PATH",
        help="npz file, or a file of molecules with dipoles that ase reads; default: a rule's, on QM9",
    )
    add("--key", default="dipole", help="of the vector in atoms.info (dipole)")
    add("--unit", default="Debye", help="of the dipoles, for the labels (Debye)")
    add("--sizes", type=positive, nargs="+", default=[50, 100, 250, 500, 800], help="training molecules")
    add("--test", type=positive, default=150, help="test molecules (150)")
    add(
        "--seed",
        "--seeds",
        type=not_negative,
        nargs="+",
        default=[0, 1, 2],
        help="choices of training molecules (0 1 2)",
    )
    add("--bandlimit", type=positive, default=4, help="of the environments (4)")
    add("--b-std", type=float, default=1.3, help="of the biases, which mix terms of fewer bodies in (1.3)")
    add("--places", type=float, default=20.0, help="weight of the channel of atoms' places; 0 for none (20)")
    add("--group", choices=("O3", "SO3"), default="O3", help="O3: the dipole of a mirror image is the image (O3)")
    add("--kernel", choices=("ntk", "nngp"), default="ntk", help="which kernel to regress with")
    add(
        "--inducing",
        type=positive,
        metavar="ATOMS",
        help="span functions by so many atoms (all molecules, as they are)",
    )
    add("--out", default="so3ntk-results/dipoles", help="folder of the results")
    return read_options(parser, {"sizes": [25, 50, 100], "test": 30, "seed": [0]})


def made() -> Molecules:
    """Molecules of QM9 with the dipoles of a rule: charge moves along each pair of atoms to the more electronegative one."""
    molecules, dipoles = load_qm9(260, seed=0).atoms, []
    for atoms in molecules:
        distances = atoms.get_all_distances() + 1e9 * np.eye(len(atoms))
        pulls = np.array([ELECTRONEGATIVITY[symbol] for symbol in atoms.get_chemical_symbols()])
        charges = np.sum((pulls - pulls[:, None]) * np.exp(-((distances / 1.4) ** 4)), axis=1)
        dipoles.append(charges @ atoms.positions)
    return Molecules(molecules, np.array(dipoles))


def read_data(path: str | None, key: str, test: int) -> tuple[Molecules, Molecules]:
    """Molecules to train and to test on. ValueError where there are no dipoles."""
    if path is None:
        every = made()
        return _some(every, np.arange(test, len(every.atoms))), _some(every, np.arange(test))
    if not Path(path).is_file():
        raise ValueError(f"--data: there is no file {path}.")
    if Path(path).suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            missing = [f"{name}_{part}" for part in ("train", "valid") for name in ("Z", "R", "offsets", "dipole")
                       if f"{name}_{part}" not in file]  # fmt: skip
            if missing:
                raise ValueError(f"--data: {path} lacks the arrays {', '.join(missing)}; it has {', '.join(file)}.")
            train, valid = (_from_arrays(*(file[f"{name}_{part}"] for name in ("Z", "R", "offsets", "dipole")))
                            for part in ("train", "valid"))  # fmt: skip
        return train, _some(valid, np.random.default_rng(12345).permutation(len(valid.atoms))[:test])
    every = _from_frames(path, key)
    order = np.random.default_rng(12345).permutation(len(every.atoms))
    return _some(every, order[test:]), _some(every, order[:test])


def _from_arrays(numbers, positions, offsets, dipoles) -> Molecules:
    from ase import Atoms

    return Molecules([Atoms(numbers[a:b], positions[a:b]) for a, b in pairwise(offsets)], np.asarray(dipoles, float))


def _from_frames(path: str, key: str) -> Molecules:
    from ase.io import read

    frames: Any = read(path, index=":")
    dipoles = []
    for number, atoms in enumerate(frames):
        results = {} if atoms.calc is None else atoms.calc.results
        value = atoms.info.get(key, results.get(key))
        if np.shape(value) != (3,):
            raise ValueError(
                f"--data: {path}, frame {number}: expected a vector {key!r}, got {value!r}; atoms.info has "
                f"{', '.join(map(str, atoms.info)) or 'nothing'}. Give its name by --key."
            )
        dipoles.append(value)
    return Molecules(frames, np.array(dipoles, float))


def _some(molecules: Molecules, rows: np.ndarray) -> Molecules:
    return Molecules([molecules.atoms[row] for row in rows], molecules.dipoles[rows])


def network(args: argparse.Namespace) -> so3ntk.Network:
    """Squares of the kernel; the parity of a dipole is that of (x, y, z), -1, which IrrepPool(1) has by default."""
    return so3ntk.serial(
        so3ntk.Lift(group=args.group, b_std=args.b_std), so3ntk.Products(ENERGY_COEFFICIENTS), so3ntk.IrrepPool(1),
        so3ntk.Dense(), AtomSum(match_species=True),
    )  # fmt: skip


class Fit(NamedTuple):
    """Predictions for the test molecules (n, 3), the ridge, and the leave-one-out error of the training molecules."""

    predicted: np.ndarray
    ridge: float
    loo: float


def fit_kernel(kernel: np.ndarray, cross: np.ndarray, dipoles: np.ndarray) -> Fit:
    """The regression on kernels (n, n, 3, 3) and (test, n, 3, 3)."""
    model = so3ntk.TensorKernelRegressor("precomputed", ridge_path=RIDGES).fit({1: kernel}, dipoles)
    return Fit(model.predict({1: cross}), model.ridge_[1], model.loo_error_[1])


def fit_inducing(net: so3ntk.Network, args: argparse.Namespace, x: Any, x_test: Any, dipoles: np.ndarray) -> Fit:
    """The regression on the functions of some atoms."""
    model = so3ntk.TensorKernelRegressor(net, args.kernel, inducing=min(args.inducing, len(x.numbers))).fit(x, dipoles)
    return Fit(model.predict(x_test), model.ridge_[1], model.loo_error_[1])


def rotation_check(net: so3ntk.Network, train: Molecules, test: Molecules, rows: np.ndarray, kernel: str) -> dict:
    """Dipoles of turned test molecules against the turned dipoles, for a model of a few training molecules."""
    make = lambda atoms, turn=None: _environments(atoms, train, turn)  # noqa: E731
    some = _some(train, rows)
    model = so3ntk.TensorKernelRegressor(net, kernel, ridge_path=RIDGES).fit(make(some.atoms), some.dipoles)
    plain, turn = model.predict(make(test.atoms)), so3ntk.random_rotations(1, seed=1).as_matrix()[0]
    turned = model.predict(make(test.atoms, turn))
    return {
        "largest difference": float(np.abs(turned - plain @ turn.T).max()),
        "mean size of a component": float(np.abs(plain).mean()),
    }


#: Options of ``environments``, and the weight of places: filled from the command line.
OPTIONS: dict[str, Any] = {}


def _environments(atoms: list[Any], train: Molecules, turn: np.ndarray | None = None) -> Any:
    if turn is not None:
        atoms = [molecule.copy() for molecule in atoms]
        for molecule in atoms:
            molecule.positions = molecule.positions @ turn.T
    symbols = sorted({symbol for molecule in train.atoms for symbol in molecule.get_chemical_symbols()})
    options = dict(OPTIONS)
    weight = options.pop("places")
    return with_places(environments(atoms, species=tuple(symbols), **options), atoms, weight)


def with_places(x: Environments, atoms: list[Any], weight: float) -> Environments:
    """One more channel: at l = 1, whose harmonics are y, z, x, the place of an atom from the mean of all of its molecule's."""
    if not weight:
        return x
    places = np.concatenate([molecule.positions - molecule.positions.mean(axis=0) for molecule in atoms])
    coefficients = np.asarray(x.signal.coefficients)
    channel = np.zeros((*coefficients.shape[:2], 1), coefficients.dtype)
    channel[:, 1:4, 0] = weight * places[:, [1, 2, 0]]
    signal = so3ntk.SphereSignal(np.concatenate([coefficients, channel], axis=2), x.signal.bandlimit)
    return Environments(signal, x.molecule, x.numbers)


def draw_picture(errors: dict, zero: float, parity: Fit, test: Molecules, title: str, unit: str, path: str) -> None:
    """The learning curve beside the error of predicting zero, and predicted against true components."""
    plt = require_matplotlib("dipoles.py")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), constrained_layout=True)
    sizes = sorted(errors)
    means = [np.mean(errors[size]) for size in sizes]
    left.loglog(sizes, means, "o-", label="kernel regression")
    left.fill_between(sizes, [min(errors[s]) for s in sizes], [max(errors[s]) for s in sizes], alpha=0.2, linewidth=0)
    left.axhline(zero, color="gray", linestyle="--", label="predicting zero")
    ticks = [t for t in (0.1, 0.12, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5) if 0.9 * min(means) < t < 1.2 * zero]
    left.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xticks(sizes, [str(size) for size in sizes])
    left.minorticks_off()
    left.set(xlabel="training molecules", ylabel=f"mean absolute error per component [{unit}]", title=title)
    left.grid(alpha=0.3)
    left.legend(frameon=False)
    limit = 1.05 * np.abs(test.dipoles).max()
    for axis, name in enumerate("xyz"):
        right.plot(test.dipoles[:, axis], parity.predicted[:, axis], ".", ms=4, label=name)
    right.plot([-limit, limit], [-limit, limit], color="gray", linewidth=0.8)
    right.set(xlabel=f"dipole component [{unit}]", ylabel="predicted", xlim=(-limit, limit), ylim=(-limit, limit),
              aspect="equal", title=f"{len(test.atoms)} test molecules, {sizes[-1]} for training")  # fmt: skip
    right.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """The kernels once, then a fit for each seed and size."""
    args = read_arguments()
    require_matplotlib("dipoles.py")  # now, not after minutes of work
    out, started = output_folder(args.out), time.perf_counter()
    args.unit = args.unit if args.data else "arbitrary units"
    train, test = read_data(args.data, args.key, args.test)
    if max(args.sizes) > len(train.atoms):
        raise ValueError(f"--sizes: {max(args.sizes)} training molecules were asked for, there are {len(train.atoms)}.")
    if args.bandlimit < 2:
        raise ValueError("--bandlimit: expected at least 2, degrees 0 and 1, of which vectors are made.")
    OPTIONS.update(ENERGY_ENVIRONMENTS, bandlimit=args.bandlimit, places=args.places)
    choices = [np.random.default_rng(seed).permutation(len(train.atoms))[: max(args.sizes)] for seed in args.seed]
    needed = np.unique(np.concatenate(choices))
    x, x_test = _environments(_some(train, needed).atoms, train), _environments(test.atoms, train)
    net = network(args)
    print(f"{len(needed)} training and {len(test.atoms)} test molecules", flush=True)
    begun, kernel, cross = time.perf_counter(), np.zeros(0), np.zeros(0)
    if args.inducing is None:
        kernel = so3ntk.irrep_grams(net, (1,), x, None, args.kernel, progress=True)[1]
        cross = so3ntk.irrep_grams(net, (1,), x_test, x, args.kernel, progress=True)[1]
    gram_seconds = time.perf_counter() - begun
    dipoles, zero = train.dipoles[needed], float(np.abs(test.dipoles).mean())
    errors: dict[int, list[float]] = {size: [] for size in args.sizes}
    points, last = [], None
    for seed, choice in zip(args.seed, choices, strict=True):
        places = np.searchsorted(needed, choice)
        for size in sorted(args.sizes):
            rows = places[:size]
            last = (fit_kernel(kernel[np.ix_(rows, rows)], cross[:, rows], dipoles[rows]) if args.inducing is None
                    else fit_inducing(net, args, x[rows], x_test, dipoles[rows]))  # fmt: skip
            errors[size].append(float(np.abs(last.predicted - test.dipoles).mean()))
            points.append(
                {"seed": seed, "size": size, "mae": errors[size][-1], "ridge": last.ridge, "loo_rmse": last.loo}
            )
    rows = [("kernel regression", size, float(np.mean(errors[size]))) for size in sorted(errors)]
    print(
        format_table(
            f"MAE/component [{args.unit}]", [*rows, *(("predicting zero", s, zero) for s in sorted(errors))], 3
        )
    )
    check = rotation_check(net, train, _some(test, np.arange(min(10, args.test))), choices[0][:30], args.kernel)
    print(
        "dipole of the rotated molecule against the rotated dipole: "
        + ", ".join(f"{k} {v:.1e}" for k, v in check.items())
    )
    assert last is not None
    title = f"{args.group}, {args.kernel.upper()}, {len(args.seed)} seeds"
    picture = replace_file(out / "dipoles.png", lambda p: draw_picture(errors, zero, last, test, title, args.unit, p))
    results = {"settings": settings(args), "unit": args.unit, "zero": zero,
               "points": points, "rotation check": check, "gram_seconds": gram_seconds,
               "seconds": time.perf_counter() - started}  # fmt: skip
    print(f"{picture}\n{write_json(out / 'dipoles.json', results)}\n{results['seconds']:.0f} s in all")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"dipoles.py: {error}")
