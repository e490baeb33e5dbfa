"""The command line: ``so3ntk fit``, ``predict``, ``md`` and ``info``; ``molecules``, ``images``, ``spectrum`` and ``gram``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from so3ntk.basics.version import __version__
from so3ntk.cli import fit, gram, images, info, md, molecules, predict, spectrum

__all__ = ["build_parser", "main"]


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
    except KeyboardInterrupt as interrupt:
        print(f"\nso3ntk {args.command}: {interrupt if interrupt.args else 'interrupted'}", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="so3ntk", description="Kernels of infinitely wide equivariant networks.")
    parser.add_argument("--version", action="version", version=f"so3ntk {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (fit, predict, md, info):
        command.add_command(commands)
    molecules.add_command(commands)
    images.add_command(commands)
    spectrum.add_command(commands)
    gram.add_command(commands)
    return parser
