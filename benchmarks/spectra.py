"""What kernels learn, and how much data they need: learning curves predicted from one sample against measured ones.

    python benchmarks/spectra.py curves --results FILE --grams DIR --qm9 qm9_5000.npz --mnist mnist.npz --fragments amons_forces.npz
    python benchmarks/spectra.py curves --results FILE --grams DIR --data digits --plot DIR
    python benchmarks/spectra.py curves --results FILE --grams DIR --data        (only the table of what is there)

``curves``: see spectra_curves.py. Each run is a JSON line in the results file; runs that have a line are not repeated.
"""

from __future__ import annotations

import argparse

import spectra_curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    spectra_curves.add_part(parts)
    args = parser.parse_args()
    if not args.run(args):
        parser.exit(1, "some runs failed: see their tracebacks above; they are repeated by the next call.\n")


if __name__ == "__main__":
    main()
