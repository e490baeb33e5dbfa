"""What the commands share: options, tables, and results that are written whole or not at all."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from so3ntk.basics.files import output_folder as output_folder
from so3ntk.basics.files import replace_file as replace_file
from so3ntk.cli.tolerance import check_rtol
from so3ntk.engine import activations
from so3ntk.engine.layers import Layer
from so3ntk.engine.plan import parse_memory

#: The class of so3ntk behind each name of an activation, and its arguments.
ACTIVATIONS: Mapping[str, tuple[str, tuple[Any, ...]]] = MappingProxyType({
    "relu": ("Relu", ()), "erf": ("Erf", ()), "gelu": ("Gelu", ()), "abs": ("Abs", ()), "sin": ("Sin", ()),
    "leaky_relu": ("LeakyRelu", (0.01,)), "products": ("Products", ((0.0, 0.0, 1.0),)),
})  # fmt: skip


#: Of the JSON files of commands and examples: a new number where what is there changes its name or its meaning.
SCHEMA = 1


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults behind every option's help, but for None: there the help says what happens."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def add_shared_options(parser: argparse.ArgumentParser, out: str, activation: str = "relu") -> None:
    """--kernel, --out (with this default) and what ``add_kernel_options`` adds."""
    parser.add_argument("--kernel", choices=("ntk", "nngp"), default="ntk", help="which kernel to regress with")
    parser.add_argument("--out", default=out, help="folder of the results")
    add_kernel_options(parser, activation)


def add_kernel_options(parser: argparse.ArgumentParser, activation: str) -> None:
    """--activation, --precision, --memory, --quiet and --traceback."""
    add = parser.add_argument
    add("--activation", choices=tuple(ACTIVATIONS), default=activation,
        help="nonlinearity (leaky_relu: of slope 0.01; products: of two independent channels)")  # fmt: skip
    add("--precision", choices=("float32", "float64"), default="float32", help="of the kernels")
    add("--memory", default="2GiB", help="budget of the Gram matrices beyond their results, with its unit")
    add_message_options(parser)


def add_message_options(parser: argparse.ArgumentParser) -> None:
    """--quiet and --traceback."""
    add = parser.add_argument
    add(
        "--quiet", action="store_true", help="print the results alone; else progress is shown, in a log a line a minute"
    )
    add("--traceback", action="store_true", help="show where an error came from")


def positive(text: str) -> int:
    """An option's value as an integer >= 1; argparse reports anything else."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text}")
    return value


def not_negative(text: str) -> int:
    """An option's value as an integer >= 0; argparse reports anything else."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected an integer >= 0, got {text}")
    return value


def make_activation(name: str) -> Layer:
    """The activation of one of the names ``ACTIVATIONS``."""
    kind, arguments = ACTIVATIONS[name]
    return getattr(activations, kind)(*arguments)


def check_options(args: argparse.Namespace) -> None:
    """ValueError, before anything is computed, for a --memory too small for anything and an --rtol out of reach."""
    memory = parse_memory(args.memory)
    if memory < 2**20:
        raise ValueError(
            f"--memory: expected at least 1MiB, as 2GiB or 500MB, got {args.memory}, which is {memory} bytes. A number without "
            "a unit is bytes."
        )
    if hasattr(args, "rtol"):
        check_rtol(args.rtol, args.precision, "--rtol", "pass --precision float64")


def say(args: argparse.Namespace, text: object) -> None:
    """Print what is not a result, at once, unless --quiet."""
    if not args.quiet:
        print(text, flush=True)


def format_table(title: str, rows: Iterable[tuple[str, int, float]], digits: int = 2) -> str:
    """One line per label, one column per training size, of (label, size, value)."""
    values = {(label, size): value for label, size, value in rows}
    sizes = sorted({size for _, size in values})
    lines = [f"{title:<28}" + "".join(f"{size:>9}" for size in sizes)]
    for label in dict.fromkeys(label for label, _ in values):
        lines.append(f"{label:<28}" + "".join(f"{values[label, size]:>9.{digits}f}" for size in sizes))
    return "\n".join(lines)


def write_json(path: Path, results: dict[str, Any]) -> Path:
    """The results as one file, below what they are: the schema, the data by checksum, the versions that computed them."""
    from so3ntk.matrices.fingerprint import versions

    data = results.get("settings", {}).get("data")
    head = {"schema": SCHEMA, "versions": versions(), "data_sha256": checksums(data)}
    text = json.dumps({**head, **results}, indent=1) + "\n"
    return replace_file(path, lambda temporary: Path(temporary).write_text(text))


def checksums(data: str | Sequence[str] | None) -> dict[str, str]:
    """SHA-256 of each file of ``--data``, by name; of a folder that of the names and contents of its files."""
    found = {}
    for path in map(Path, [data] if isinstance(data, str) else data or ()):
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        elif path.is_dir():
            digest = hashlib.sha256()
            for part in sorted(part for part in path.rglob("*") if part.is_file()):
                digest.update(part.relative_to(path).as_posix().encode() + b"\0" + part.read_bytes())
            found[path.name] = digest.hexdigest()
    return found


def read_options(parser: argparse.ArgumentParser, quick: Mapping[str, Any]) -> argparse.Namespace:
    """The options of an example, which has --quick: other defaults, with which it takes less than a minute."""
    said = ", ".join(f"{name} {value}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"less than a minute: {said}; what is given counts first")
    if parser.parse_args().quick:
        parser.set_defaults(**quick)
    return parser.parse_args()


def run_example(run: Callable[[argparse.Namespace], None], options: Callable[[], argparse.Namespace]) -> None:
    """Run an example with its options; what its user can mend ends it with a line on standard error and status 2."""
    try:
        run(options())
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options that decide the numbers."""
    return {name: value for name, value in vars(args).items() if name not in ("run", "traceback", "out", "quiet")}
