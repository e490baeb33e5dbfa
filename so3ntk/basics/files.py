"""Files that are there whole or not at all, and places that can be written to, seen before minutes of work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from so3ntk.basics.arguments import local_path


def replace_file(path: Path, write: Callable[[str], object]) -> Path:
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


def writable_file(path: str | os.PathLike, where: str) -> Path:
    """The path, if a file can be written there. ValueError or OSError, naming it, for addresses, folders and no folder."""
    file = local_path(path, where)
    if file.is_dir():
        raise IsADirectoryError(f"{where}: {file} is a folder. Name a file in it, such as {file / 'model.npz'}.")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"{where}: there is no folder {file.parent} for the file {file.name}. Make it first.")
    try:
        _try_to_write(file.parent)
    except OSError as error:
        raise type(error)(
            f"{where}: cannot write in the folder {file.parent} ({error.strerror}). Name another."
        ) from error
    return file


def output_folder(path: str | os.PathLike) -> Path:
    """The folder, made if it is not there. ValueError or OSError if nothing can be written in it."""
    folder = local_path(path, "--out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise type(error)(f"--out: cannot write in the folder {folder} ({error.strerror}). Name another.") from error
    return folder


def _try_to_write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass
