"""``so3ntk md``: molecular dynamics with a saved potential, by ase."""

from __future__ import annotations

import argparse
import time
from io import StringIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from so3ntk.basics.files import writable_file
from so3ntk.cli.potentials import for_dynamics, load_potential
from so3ntk.cli.results import HelpFormatter, add_message_options, not_negative, positive, say

if TYPE_CHECKING:
    from ase import Atoms

#: Lines that are printed of a run.
LINES = 20
#: Atoms nearer than this share of the sum of their covalent radii overlap; bonds have 0.8 of it and more.
OVERLAP = 0.5
#: Compressibility of water, 1/bar, which sets how fast the cell follows the pressure and not where it ends.
COMPRESSIBILITY = 4.57e-5
HEADER = f"{'step':>9}{'time [fs]':>12}{'potential [eV]':>17}{'kinetic [eV]':>14}{'total [eV]':>15}{'T [K]':>9}"


def add_command(commands: Any) -> None:
    """The command's parser."""
    parser = commands.add_parser(
        "md",
        help="molecular dynamics with a saved potential",
        description="Molecular dynamics by ase with a potential that so3ntk fit saved. Velocities are drawn at the temperature, without "
        "momentum and, where nothing is periodic, rotation. The trajectory is extended xyz with energies, forces and momenta in "
        "ase's units; a run that is interrupted leaves whole frames.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="the file that so3ntk fit saved")
    add("start", metavar="START", help="a structure in a file that ase reads, the last one of several")
    add("--trajectory", required=True, metavar="FILE", help="the trajectory, such as out.extxyz")
    add("--temperature", type=_positive, default=300.0, help="in K, of the thermostat and of the first velocities")
    add("--steps", type=positive, default=1000, help="how many")
    add("--timestep", type=_positive, default=0.5, help="in fs")
    add("--ensemble", choices=("nve", "nvt", "npt"), default="nvt", help="velocity Verlet, Langevin's thermostat, or that and "
        "pressure of Berendsen's weak coupling")  # fmt: skip
    add("--friction", type=_positive, default=0.01, help="of nvt, in 1/fs")
    add("--pressure", type=float, default=1.0, help="of npt, in bar")
    add("--warn-above", type=_positive, metavar="STD", help="warn, once, where the standard deviation of an atom's force passes so many "
        "eV/Angstrom; needs deviations at every step, which cost a multiple")  # fmt: skip
    add("--interval", type=positive, default=10, help="steps from one written frame to the next")
    add("--length-unit", choices=("Angstrom", "Bohr"), default="Angstrom", help="of START")
    add("--seed", type=not_negative, default=0, help="of velocities and of the thermostat")
    add_message_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check the start, draw velocities, run, and say how fast."""
    from so3ntk.molecules import Calculator

    path = writable_file(args.trajectory, "--trajectory")
    model, size = for_dynamics(load_potential(args.model), args.model)
    atoms, rng = read_start(args), np.random.default_rng(args.seed)
    atoms.calc = Calculator(model, unit=size, warn_above=args.warn_above)
    dynamics = dynamics_of(args, atoms, rng)
    atoms.get_potential_energy()  # elements that the model has not seen are refused before a file is begun
    say(args, f"{len(atoms)} atoms, {args.ensemble}, {args.steps} steps of {args.timestep:g} fs\n{HEADER}")
    begun = time.perf_counter()
    with open(path, "w") as file:
        temperatures = simulate(args, atoms, dynamics, file)
    seconds = time.perf_counter() - begun
    print(f"{path}: {args.steps} steps, {args.steps / seconds:.3g} steps per second, mean temperature "
          f"{np.mean(temperatures):.0f} K, potential energy at the end {atoms.get_potential_energy():.6f} eV")  # fmt: skip
    return 0


def simulate(args: argparse.Namespace, atoms: Atoms, dynamics: Any, file: IO[str]) -> list[float]:
    """Run all steps and write every ``interval``-th frame, the first included; the temperatures of these."""
    from ase.units import fs

    temperatures, told, begun = [], 0, time.perf_counter()
    for step in (*range(0, args.steps, args.interval), args.steps):
        if step:
            dynamics.run(step - dynamics.get_number_of_steps())
        check_overlap(atoms, f"step {step}", " The potential was taken where it knows nothing: train on more frames, at higher "
                      "temperatures, or try a smaller --timestep.")  # fmt: skip
        if step % args.interval == 0:
            write_frame(atoms, dynamics.get_time() / fs, file)
        temperatures.append(float(atoms.get_temperature()))
        if step == args.steps or step * LINES >= told * args.steps:
            say(args, line(step, dynamics.get_time() / fs, atoms, begun))
            told += 1
    return temperatures


def line(step: int, femtoseconds: float, atoms: Atoms, begun: float) -> str:
    """Where a run is: energies, temperature, speed."""
    potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
    speed = f"   {step / (time.perf_counter() - begun):.3g} steps/s" if step else ""
    return (
        f"{step:>9}{femtoseconds:>12.1f}{potential:>17.5f}{kinetic:>14.5f}{potential + kinetic:>15.5f}"
        f"{atoms.get_temperature():>9.0f}{speed}"
    )


def write_frame(atoms: Atoms, femtoseconds: float, file: IO[str]) -> None:
    """One frame in one piece: a run that ends at any time leaves whole ones."""
    from ase.io import write

    text, copy = StringIO(), atoms.copy()
    copy.calc, copy.info["time_fs"] = atoms.calc, round(femtoseconds, 6)
    write(text, copy, format="extxyz")
    file.write(text.getvalue())
    file.flush()


def read_start(args: argparse.Namespace) -> Atoms:
    """The structure, in Angstrom; ValueError for one that no dynamics begins with."""
    from so3ntk.molecules.datasets.data import read_structures
    from so3ntk.molecules.forces.consistency import BOHR, check_distances

    atoms = read_structures(args.start, "START")[-1]
    if args.length_unit == "Bohr":
        atoms.set_cell(np.asarray(atoms.cell) * BOHR)
        atoms.positions *= BOHR
    check_overlap(
        atoms, f"START {args.start}", " Positions are expected in Angstrom; --length-unit Bohr is for others."
    )
    check_distances([atoms], "START")
    return atoms


def check_overlap(atoms: Atoms, where: str, remedy: str = "") -> None:
    """ValueError for atoms that are nearer than any bond, and positions that are no longer numbers."""
    from ase.data import covalent_radii

    from so3ntk.molecules.neighbours import pairs_within

    if not np.isfinite(atoms.positions).all():
        raise ValueError(f"{where}: positions are NaN or infinite.{remedy}")
    radii = covalent_radii[atoms.numbers]
    edges = pairs_within([atoms], 2 * OVERLAP * float(radii.max()))
    if not len(edges):
        return
    vectors = atoms.positions[edges.neighbour] + np.asarray(edges.offsets) - atoms.positions[edges.centre]
    distances, sums = np.linalg.norm(vectors, axis=1), radii[edges.centre] + radii[edges.neighbour]
    worst = int(np.argmin(distances / sums))
    if distances[worst] < OVERLAP * sums[worst]:
        names = " and ".join(
            f"{atoms.get_chemical_symbols()[i]} (atom {i})" for i in sorted((int(edges.centre[worst]), int(edges.neighbour[worst])))
        )  # fmt: skip
        raise ValueError(
            f"{where}: {names} overlap: they are {distances[worst]:.3g} Angstrom apart, less than {OVERLAP:g} of the sum of "
            f"their covalent radii, {sums[worst]:.3g}.{remedy}"
        )


def dynamics_of(args: argparse.Namespace, atoms: Atoms, rng: np.random.Generator) -> Any:
    """ase's integrator, with velocities drawn."""
    from ase import units
    from ase.constraints import FixCom
    from ase.md.langevin import Langevin
    from ase.md.nptberendsen import NPTBerendsen
    from ase.md.velocitydistribution import Stationary, ZeroRotation
    from ase.md.verlet import VelocityVerlet

    if args.ensemble == "npt" and not atoms.pbc.all():
        raise ValueError(
            f"--ensemble npt: {args.start} is not periodic in all directions (pbc {atoms.pbc.tolist()}), so it has no volume. "
            "Use nvt."
        )
    if not atoms.constraints and len(atoms) > 1:
        atoms.set_constraint(FixCom())  # three degrees of freedom less, which temperatures count
    widths = np.sqrt(atoms.get_masses() * args.temperature * units.kB)
    atoms.set_momenta(widths[:, None] * rng.standard_normal((len(atoms), 3)))
    Stationary(atoms)
    if not atoms.pbc.any() and len(atoms) > 1:
        with np.errstate(invalid="ignore"):  # molecules on a line have no moment of inertia about it
            ZeroRotation(atoms)
    step = args.timestep * units.fs
    if args.ensemble == "nve":
        return VelocityVerlet(atoms, timestep=step)
    if args.ensemble == "nvt":
        options = {"temperature_K": args.temperature, "friction": args.friction / units.fs, "rng": rng, "fixcm": False}
        return Langevin(atoms, timestep=step, **options)
    return NPTBerendsen(
        atoms, timestep=step, temperature_K=args.temperature, pressure_au=args.pressure * units.bar,
        compressibility_au=COMPRESSIBILITY / units.bar,
    )  # fmt: skip


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value
