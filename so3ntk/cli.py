"""The command line: ``so3ntk molecules``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ACTIVATIONS = ("relu", "erf", "gelu", "abs", "sin", "leaky_relu")
LABELS = {"so3": "SO(3) kernel", "mlp": "MLP kernel", "composition": "composition alone"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors a user can mend are printed in one line, with exit status 2."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if args.traceback:
            raise
        print(f"so3ntk {args.command}: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="so3ntk", description="Kernels of infinitely wide equivariant networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    molecules = commands.add_parser(
        "molecules",
        help="learning curves of molecular energies",
        description="Compare the SO(3) kernel, the MLP kernel and composition alone at growing training sizes: prints "
        "a table, writes a picture and the results as JSON.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = molecules.add_argument
    add(
        "--data",
        metavar="FILE",
        help="QM9 as npz or CSV folder, or any file ase reads; default: package qm9pack",
    )
    add("--target", default="U0", help="QM9 target, or the key of the energies in a file that ase reads")
    add("--sizes", type=_positive, nargs="+", default=[50, 100, 200], help="training molecules")
    add("--test", type=_positive, default=150, help="test molecules")
    add("--seed", type=int, default=0, help="of the draw of molecules")
    add("--bandlimit", type=_positive, default=4, help="degrees l < L of the environments")
    add("--powers", type=float, nargs="+", default=[1.0, 2.0, 4.0, 6.0], help="p of the weights 1 / r^p")
    add("--length", type=float, default=1.6, help="where all powers weigh the same, in Angstrom")
    add("--depth", type=_positive, default=1, help="nonlinearities before pooling")
    add("--activation", choices=ACTIVATIONS, default="relu", help="nonlinearity")
    add("--kernel", choices=("ntk", "nngp"), default="ntk", help="which kernel to regress with")
    add("--rtol", type=float, default=1e-5, help="quadrature error that the rotation grid is calibrated to")
    add("--precision", choices=("float32", "float64"), default="float32", help="of the kernels")
    add("--memory", default="2GiB", help="budget of the Gram matrices beyond their results")
    add("--out", default="so3ntk-results", help="folder of the results")
    add("--traceback", action="store_true", help="show where an error came from")
    molecules.set_defaults(run=run_molecules)
    return parser


def run_molecules(args: argparse.Namespace) -> int:
    """The main job."""
    import jax

    jax.config.update("jax_enable_x64", args.precision == "float64")
    from so3ntk.gram import gram
    from so3ntk.molecules import environments
    from so3ntk.molecules.energies import energy_network, learning_curve, mlp_network
    from so3ntk.plots import plot_learning_curves, require_matplotlib

    require_matplotlib("so3ntk molecules")  # now, not after minutes of work
    out = _output_folder(args.out)
    started = time.perf_counter()
    data = _load(args)
    print(f"{len(data)} molecules, {sum(map(len, data.atoms))} atoms, target {data.target} ({data.unit})")
    species = tuple(sorted({symbol for atoms in data.atoms for symbol in atoms.get_chemical_symbols()}))
    powers, length = tuple(args.powers), args.length
    x = environments(data.atoms, species=species, powers=powers, bandlimit=args.bandlimit, length=length)
    activation = _activation(args.activation)
    so3 = energy_network(args.depth, activation, rtol=args.rtol).calibrate(x)
    print(f"rotation grid for rtol {args.rtol:g}: {so3.quadrature}")
    kernels, seconds = {}, {}
    for name, net in (("mlp", mlp_network(args.depth, activation)), ("so3", so3)):
        begun = time.perf_counter()
        print(LABELS[name], flush=True)
        kernels[name] = gram(net, x, get=args.kernel, memory=args.memory)
        seconds[name] = time.perf_counter() - begun
    points = learning_curve(kernels, data.atoms, data.targets, args.sizes, args.test)
    units = _units(data.unit)
    print(_table(points, units))
    unit, factor = units[0]
    scaled = [_Scaled(p.method, p.size, p.mae * factor) for p in points]
    picture = out / "learning_curve.png"
    _replace(picture, lambda path: plot_learning_curves(
        scaled, path, ylabel=f"mean absolute error of {data.target} [{unit}]",
        title=f"{len(data)} molecules, {args.test} of them for testing", labels=LABELS))  # fmt: skip
    results = {
        "settings": {k: v for k, v in vars(args).items() if k not in ("run", "traceback", "out")},
        "unit": data.unit,
        "quadrature": str(so3.quadrature),
        "gram_seconds": seconds,
        "seconds": time.perf_counter() - started,
        "versions": _versions(),
        "points": [asdict(point) for point in points],
    }
    file = out / "learning_curve.json"
    _replace(file, lambda path: Path(path).write_text(json.dumps(results, indent=1) + "\n"))
    print(f"{picture}\n{file}\n{results['seconds']:.0f} s in all")
    return 0


class _Scaled:
    def __init__(self, method: str, size: int, mae: float):
        self.method, self.size, self.mae = method, size, mae


def _load(args: argparse.Namespace) -> Any:
    from so3ntk.molecules import load_qm9, read_molecules

    needed = max(args.sizes) + args.test
    path = args.data
    if path is None or Path(path).is_dir() or Path(path).suffix == ".npz":
        return load_qm9(needed, seed=args.seed, target=args.target, path=path)
    data = read_molecules(path, target_key=args.target)
    if needed > len(data):
        raise ValueError(f"--sizes and --test ask for {needed} molecules, {path} holds {len(data)}.")
    return data[np.random.default_rng(args.seed).permutation(len(data))[:needed]]


def _activation(name: str) -> Any:
    import so3ntk

    return getattr(so3ntk, "".join(part.capitalize() for part in name.split("_")))()


def _units(unit: str) -> list[tuple[str, float]]:
    if unit != "eV":
        return [(unit, 1.0)]
    from ase.units import kcal, mol

    return [("kcal/mol", mol / kcal), ("meV", 1000.0)]


def _table(points: Sequence[Any], units: Sequence[tuple[str, float]]) -> str:
    sizes = sorted({p.size for p in points})
    methods = list(dict.fromkeys(p.method for p in points))
    mae = {(p.method, p.size): p.mae for p in points}
    lines = []
    for unit, factor in units:
        title = f"mean absolute error [{unit}]"
        lines.append(f"{title:<28}" + "".join(f"{size:>9}" for size in sizes))
        for method in methods:
            row = "".join(f"{mae[method, size] * factor:>9.2f}" for size in sizes)
            lines.append(f"{LABELS.get(method, method):<28}" + row)
    return "\n".join(lines)


def _output_folder(path: str) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _replace(path: Path, write: Any) -> None:
    """Write to a temporary file beside the target, then rename it: a file is there whole or not at all."""
    handle, temporary = tempfile.mkstemp(suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    import so3ntk

    others = {name: version(name) for name in ("jax", "jaxlib", "numpy", "s2fft")}
    return {"so3ntk": so3ntk.__version__, **others}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return value
