"""Forces of molecules: learned from energies alone, and from energies and forces together.

    python examples/forces.py --quick
    python examples/forces.py --data amons_forces.npz
    python examples/forces.py --data frames.extxyz --energy-key energy --forces-key forces --unit eV

A kernel of molecules has derivatives in the positions of the atoms, so one Gaussian process holds energies and forces
(``EnergyForceRegressor``). The table gives the mean absolute error of a force component on validation molecules for
forces predicted as zero, as the gradient of a fit to energies alone, and by a fit to both; and the error of the energies.

--data: any file that ase reads, with energies and forces, which is shuffled and split; or an npz file with arrays Z, R
(Angstrom), offsets (n + 1,), F and an energy e_at, each as NAME_train and NAME_valid, energies in kcal/mol. First the file
is checked: net forces and torques, and, for molecules that it holds in several geometries of the same atoms, that energy
differences are the work of the forces between them, which tells a wrong sign or unit. Prints a table; writes forces.png,
parity.png and forces.json. The defaults take 40 seconds on one core; time grows with the square of the
training molecules, which dominate, and memory with their number of coordinates (2 GiB for the fit at 250).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from so3ntk.basics.plots import plot_learning_curves, plot_parity, require_matplotlib
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
from so3ntk.molecules import CompositionBaseline, EnergyForceRegressor, ForceData, Frames, read_forces, read_frames
from so3ntk.molecules.energies import covering_order
from so3ntk.molecules.forces.regressor import FORCE_ENVIRONMENTS

METHODS = {"zero": "forces zero", "energies": "from energies alone", "both": "from energies and forces"}


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--data",
        metavar="PATH",
        help="npz file, or any file with energies and forces that ase reads; default: ase's EMT",
    )
    add("--energy-key", default="energy", help="of files that ase reads (energy)")
    add("--forces-key", default="forces", help="of files that ase reads (forces)")
    add("--unit", default="eV", help="of energies in files that ase reads (eV); npz files are in kcal/mol")
    add("--sizes", "--train", type=positive, nargs="+", default=[15, 30, 60], help="training sizes (15 30 60)")
    add("--test", "--valid", type=positive, default=40, help="validation molecules (40)")
    add("--seed", "--seeds", type=not_negative, nargs="+", default=[0], help="one split for each (0)")
    add("--kernel", choices=("ntk", "nngp"), default="ntk", help="which kernel (ntk)")
    add("--out", default="so3ntk-results/forces", help="folder of the results")
    return read_options(parser, {"sizes": [8, 16], "test": 10})


def made() -> ForceData:
    """Ethanol, rattled, with the energies and forces of ase's effective medium: to try it, not to learn from."""
    from ase.build import molecule
    from ase.calculators.emt import EMT

    frames = []
    for seed in range(100):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        frames.append(atoms)
    return ForceData(
        frames, np.array([a.get_potential_energy() for a in frames]), [a.get_forces() for a in frames], "eV"
    )


def read_pools(args: argparse.Namespace) -> tuple[ForceData | Frames, ForceData | Frames]:
    """Molecules to draw training and validation sets from."""
    if args.data is None:
        data = made()
        return data[:60], data[60:]
    if Path(args.data).suffix != ".npz":
        data = read_forces(args.data, args.energy_key, args.forces_key, args.unit)
        order = np.random.default_rng(0).permutation(len(data))
        return data[order[: -len(data) // 3]], data[order[-len(data) // 3 :]]
    train, valid = (read_frames(args.data, unit="kcal/mol", part=part) for part in ("train", "valid"))
    return train, valid


def check_data(data: ForceData | Frames, closest: float = 0.12) -> dict[str, float]:
    """Net forces, torques, and the slope of energy differences against the work of the forces: 1 where units agree.

    Two geometries of the same atoms in the same order, less than ``closest`` (Angstrom, root mean square) apart, differ
    by -(F + F') (R' - R) / 2 in energy, to third order.
    """
    force = max(np.abs(f.sum(axis=0)).max() for f in data.forces)
    arms = [a.positions - a.positions.mean(axis=0) for a in data.atoms]
    torque = max(np.abs(np.cross(r, f).sum(axis=0)).max() for r, f in zip(arms, data.forces, strict=True))
    found = {"largest_net_force": float(force), "largest_torque": float(torque), "pairs": 0.0, "slope": np.nan}
    alike: dict[tuple, list[int]] = {}
    for i, atoms in enumerate(data.atoms):
        alike.setdefault(tuple(atoms.numbers.tolist()), []).append(i)
    work, difference = [], []
    for group in alike.values():
        for place, i in enumerate(group):
            for j in group[:place]:
                if len(arms[i]) < 3:
                    continue
                rotation, _ = Rotation.align_vectors(arms[j], arms[i])
                step = arms[j] - rotation.apply(arms[i])
                if np.sqrt((step**2).sum(axis=1).mean()) < closest:
                    work.append(-((rotation.apply(data.forces[i]) + data.forces[j]) * step).sum() / 2)
                    difference.append(data.energies[j] - data.energies[i])
    if work:
        x, y = np.array(work), np.array(difference)
        found |= {
            "pairs": float(len(x)),
            "slope": float(x @ y / (x @ x)),
            "correlation": float(x @ y / np.sqrt(x @ x * (y @ y))),
        }
    return found


def experiment(
    train: ForceData | Frames, valid: ForceData | Frames, args: argparse.Namespace, species: tuple
) -> tuple[list[dict], Any]:
    """The errors of all methods on one split for one training size, and the forces predicted by the joint fit."""
    truth = np.concatenate(valid.forces)
    composition = CompositionBaseline().fit(train.atoms, train.energies).predict(valid.atoms)
    point = {"size": len(train), "method": "zero", "force_mae": float(np.abs(truth).mean()),
             "energy_mae": float(np.abs(composition - valid.energies).mean()), "seconds": 0.0}  # fmt: skip
    points, predicted = [point], None
    for method, forces in (("energies", None), ("both", train.forces)):
        start = time.perf_counter()
        environment = {**FORCE_ENVIRONMENTS, "species": species}
        model = EnergyForceRegressor(None, args.kernel, environment, progress=sys.stderr.isatty())
        predicted = model.fit(train.atoms, train.energies, forces).predict(valid.atoms)
        error = np.abs(np.concatenate(predicted.forces) - truth).mean()
        points.append({"size": len(train), "method": method, "force_mae": float(error),
                       "energy_mae": float(np.abs(predicted.energies - valid.energies).mean()),
                       "energy_noise": model.energy_noise_, "force_noise": model.force_noise_,
                       "amplitude": model.amplitude_, "seconds": time.perf_counter() - start})  # fmt: skip
    return points, predicted


def print_table(points: list[dict], unit: str) -> None:
    """Mean absolute errors, averaged over seeds."""
    sizes = sorted({p["size"] for p in points})
    for key, title in (("force_mae", f"force component [{unit}/Angstrom]"), ("energy_mae", f"energy [{unit}]")):
        print(f"\nmean absolute error, {title}".ljust(48) + "".join(f"{size:>9}" for size in sizes))
        for method, name in METHODS.items():
            name = "energy: composition alone" if (key, method) == ("energy_mae", "zero") else name
            means = [np.mean([p[key] for p in points if p["size"] == s and p["method"] == method]) for s in sizes]
            print(f"  {name:45}" + "".join(f"{mean:9.2f}" for mean in means))


def draw_parity(valid: ForceData | Frames, predicted: Any, unit: str, path: str) -> None:
    """Predicted against true energies and force components."""
    forces = np.concatenate(valid.forces), np.concatenate(predicted.forces)
    energies = valid.energies, predicted.energies, f"energy [{unit}]"
    plot_parity([energies, (*forces, f"force component [{unit}/Å]")], path)


def run(args: argparse.Namespace) -> None:
    """Check the data, fit all sizes on all splits, write table, pictures and numbers."""
    require_matplotlib("forces.py")  # now, not after minutes of work
    started, out = time.perf_counter(), output_folder(args.out)
    pools = read_pools(args)
    if max(args.sizes) > len(pools[0]) or args.test > len(pools[1]):
        raise ValueError(
            f"--sizes, --test: the file has {len(pools[0])} molecules to train on and {len(pools[1])} others."
        )
    checks = check_data(ForceData(pools[0].atoms + pools[1].atoms, np.concatenate([p.energies for p in pools]),
                                  pools[0].forces + pools[1].forces, pools[0].unit))  # fmt: skip
    print(", ".join(f"{name} {value:.4g}" for name, value in checks.items()), flush=True)
    species = tuple(sorted({z for pool in pools for atoms in pool.atoms for z in atoms.numbers.tolist()}))
    points, valid, predicted = [], pools[1], None
    for seed in args.seed:
        rng = np.random.default_rng(seed)
        train = pools[0][rng.permutation(len(pools[0]))[: max(args.sizes)]]
        train = train[covering_order(train.atoms, len(train))]
        valid = pools[1][rng.permutation(len(pools[1]))[: args.test]]
        for size in sorted(args.sizes):
            found, predicted = experiment(train[:size], valid, args, species)
            points += [{"seed": seed, **point} for point in found]
            print(f"seed {seed}: " + "; ".join(f"{p['method']} {p['force_mae']:.2f} ({p['seconds']:.0f} s)" for p in found)
                  + f" at {size}", flush=True)  # fmt: skip
    unit = pools[0].unit
    print_table(points, unit)
    curve = [(p["method"], p["size"], p["force_mae"]) for p in points]
    picture = plot_learning_curves(curve, out / "forces.png", ylabel=f"mean absolute error of a force component [{unit}/Å]",
                                   xlabel="training molecules", title=f"{args.test} validation molecules", labels=METHODS)  # fmt: skip
    parity = replace_file(out / "parity.png", lambda path: draw_parity(valid, predicted, unit, path))
    seconds = time.perf_counter() - started
    file = write_json(out / "forces.json", {"settings": settings(args), "unit": unit, "data": checks, "seconds": seconds,
                                            "points": points})  # fmt: skip
    print(f"\n{picture}\n{parity}\n{file}\n{seconds:.0f} s in all, {time.process_time():.0f} s of processors")


if __name__ == "__main__":
    run_example(run, read_arguments)
