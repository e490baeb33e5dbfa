"""What the commands share: options, tables, and results that are written whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ACTIVATIONS = ("relu", "erf", "gelu", "abs", "sin", "leaky_relu")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults behind every option's help, but for None: there the help says what happens."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def add_shared_options(parser: argparse.ArgumentParser, out: str) -> None:
    """--kernel, --out (with this default) and what ``add_kernel_options`` adds."""
    parser.add_argument("--kernel", choices=("ntk", "nngp"), default="ntk", help="which kernel to regress with")
    parser.add_argument("--out", default=out, help="folder of the results")
    add_kernel_options(parser)


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """--activation, --precision, --memory and --traceback."""
    add = parser.add_argument
    add("--activation", choices=ACTIVATIONS, default="relu", help="nonlinearity")
    add("--precision", choices=("float32", "float64"), default="float32", help="of the kernels")
    add("--memory", default="2GiB", help="budget of the Gram matrices beyond their results")
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


def make_activation(name: str) -> Any:
    """The activation of one of the names ``ACTIVATIONS``, with its defaults."""
    import so3ntk

    return getattr(so3ntk, "".join(part.capitalize() for part in name.split("_")))()


def format_table(title: str, rows: Iterable[tuple[str, int, float]], digits: int = 2) -> str:
    """One line per label, one column per training size, of (label, size, value)."""
    values = {(label, size): value for label, size, value in rows}
    sizes = sorted({size for _, size in values})
    lines = [f"{title:<28}" + "".join(f"{size:>9}" for size in sizes)]
    for label in dict.fromkeys(label for label, _ in values):
        lines.append(f"{label:<28}" + "".join(f"{values[label, size]:>9.{digits}f}" for size in sizes))
    return "\n".join(lines)


def output_folder(path: str | os.PathLike) -> Path:
    """The folder, made if it is not there. OSError, before minutes of work, if nothing can be written in it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(f"--out: cannot write in the folder {folder} ({error.strerror}). Name another.") from error
    return folder


def replace_file(path: Path, write: Callable[[str], Any]) -> Path:
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
    return path


def write_json(path: Path, results: dict[str, Any]) -> Path:
    """The results and the versions they came from, as one file."""
    from so3ntk.fingerprint import versions

    text = json.dumps({**results, "versions": versions()}, indent=1) + "\n"
    return replace_file(path, lambda temporary: Path(temporary).write_text(text))


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The options that decide the numbers."""
    return {name: value for name, value in vars(args).items() if name not in ("run", "traceback", "out")}
