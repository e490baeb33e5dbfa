"""Learning curves on QM9 of our kernels, of SOAP, FCHL19 and FCHL18, of an MLP's kernel and of composition alone.

    python benchmarks/learning_qm9.py --results FILE [--methods so3 ...] [--seeds 0 1 2] [--sizes 200 500 1000] [--plot DIR]
    python benchmarks/learning_qm9.py --results FILE --methods so3 --inducing 3000 --grid 16 --activation "Monomial(3)"
    python benchmarks/learning_qm9.py --results FILE --molecules 4500 --test 500 --seeds 0 --sizes 200 500 1000 2000 4000
    python benchmarks/learning_qm9.py --results FILE --methods           (only the table of what is there)

    python benchmarks/learning_qm9.py --results FILE --target gap --sizes 1000
    python benchmarks/learning_qm9.py --results FILE --fragments amons_forces.npz --sizes 100 200 400 800 --test 800

Install ``so3ntk[molecules,peers]``. U0 in kcal/mol, or another target: extensive ones have composition, the others an intercept
alone. For each seed: load_qm9(molecules, seed), the last ``test`` of which are
predicted and the first ``size`` trained on, but for a few moved to the front so that all elements occur (covering_order).
All methods fit the same unpenalised columns (a one, the number of atoms of each element) with the rest, and choose the ridge
by exact leave-one-out; nothing is chosen on test molecules.

--fragments: in place of QM9 energies of distorted fragments of H, C, N, O, a second set, on which nothing was chosen: a
permutation of its training part for each seed, and test molecules drawn from its validation part.

Methods: ``so3``, so3ntk.InducingRegressor with the documented network and environments for energies (so3ntk.molecules.energies),
--inducing, --selection, --activation, --b-std, --grid, --dtype for others; ``mlp``, the same without symmetry; ``composition``; ``soap``
(dscribe); ``fchl19-shipped-2``, ``-6`` and ``fchl19-tuned-2``, ``-6``, by sigma, and ``fchl18``, ``fchl18-alchemy`` (kernelforge),
by kernel ridge regression; settings in peers.py. ``fchl18-alchemy`` runs only if it is named.

Each method, seed and size is a run in a process of its own and a JSON line in the results file: errors, leave-one-out error,
ridge, seconds of each stage, peak memory (of the process, and before the method began), settings, versions, machine. Runs that
have a line are not repeated. Seconds are of the whole method at that size, from molecules in memory to predictions, with
compilation, which is part of every run, and without the start of Python and imports; they are comparable where "cores" and
"load" are: pin the benchmark (OMP_NUM_THREADS=1 taskset -c 0 python ...) and leave the machine to it. Versions and commit
are in the record and no part of what makes a run another one: begin a new file where the library's kernels have changed.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from methods import METHODS, NETWORK_OPTIONS, STANDARD, measure, runs_of
from records import Results
from tables import draw, print_stages, print_tables


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What both benchmarks of regressions on QM9 are told: results, molecules, pictures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, metavar="FILE", help="JSON lines; appended to")
    parser.add_argument("--plot", metavar="DIR", help="folder for pictures")
    parser.add_argument("--path", metavar="FILE", help="QM9 as npz or CSV folder; default: package qm9pack")
    parser.add_argument("--fragments", metavar="FILE", help="amons_forces.npz in place of QM9")
    parser.add_argument("--target", default="U0", help="of load_qm9; in its units, but U0 in kcal/mol")
    parser.add_argument("--molecules", type=int, default=1200, help="molecules drawn for each seed")
    parser.add_argument("--test", type=int, default=200, help="the last of them, for the test")
    return parser


def data_of(args: argparse.Namespace, sizes: list[int], parser: argparse.ArgumentParser) -> dict:
    """What of a run says which molecules."""
    if args.fragments:
        if args.path or args.target != "U0":
            parser.error("--fragments has a file and a target of its own: leave --path and --target out.")
        return {"data": Path(args.fragments).name, "fragments": True, "molecules": 800, "test": args.test}
    if not 0 < args.test < args.molecules:
        parser.error(f"--test: expected a number from 1 to below --molecules {args.molecules}, got {args.test}.")
    if min(sizes) < 1 or max(sizes) > args.molecules - args.test:
        parser.error(f"--sizes: expected 1 to {args.molecules - args.test} (molecules less test), got {sizes}.")
    other = {} if args.target == "U0" else {"target": args.target}
    return {
        "data": Path(args.path).name if args.path else "qm9pack", "molecules": args.molecules, "test": args.test, **other,
    }  # fmt: skip


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--methods", nargs="*", default=list(STANDARD), choices=[*METHODS], metavar="METHOD")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 500, 1000])
    parser.add_argument(
        "--inducing", type=lambda text: text if text == "all" else int(text), metavar="M",
        help='inducing atoms, or "all" inputs; default: the regressor\'s own',
    )  # fmt: skip
    parser.add_argument("--selection", default="farthest", help="of inducing atoms: farthest, cholesky, random")
    parser.add_argument(
        "--activation", metavar="NAME", help="of so3ntk, such as Erf or Monomial(3); default: the network's"
    )
    parser.add_argument("--grid", metavar="N[xB]", help="N x B x N rotations, B by default N / 2; default: by rtol")
    parser.add_argument("--b-std", type=float, help="of the biases of Lift; default: the network's")
    parser.add_argument("--dtype", default="float32", help="of environments and features: float32, float64")
    parser.add_argument(
        "--deviations", action="store_true", help="also how many targets are within a standard deviation"
    )
    args = parser.parse_args()
    options = {name: getattr(args, name) for name in NETWORK_OPTIONS}
    results = Results(args.results)
    runs = runs_of(args.methods, options, args.seeds, args.sizes, data_of(args, args.sizes, parser))
    complete = results.complete(runs, partial(measure, path=args.fragments or args.path))
    records = results.read()
    if records:
        print_tables(records)
        print_stages(records)
        for path in draw(records, args.plot) if args.plot else ():
            print(path.name)
    if not complete:
        parser.exit(1, "some runs failed: see their tracebacks above; they are repeated by the next call.\n")


if __name__ == "__main__":
    main()
