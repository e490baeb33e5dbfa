"""What callers pass beside arrays: yes or no, numbers, places on this machine. Errors name the argument."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeGuard

import numpy as np

#: "s3://bucket", and what pathlib makes of it, "s3:/bucket"; "zip::s3://bucket/a.zip". One letter is a drive of Windows.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+:/")


def check_flag(value: object, where: str, name: str) -> bool:
    """True or False. TypeError for anything else: of "no", 0.5 or an object Python would make True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{where}: expected {name} to be True or False, got {value!r}.")
    return bool(value)


def check_whole(value: object, where: str, name: str, least: int) -> int:
    """An integer >= least; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{where}: expected {name} to be an integer >= {least}, got {value!r}.")
    return int(value)


def is_number(value: object) -> bool:
    """Whether a value is one real number, of Python or of NumPy; True and False are none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_address(place: object) -> TypeGuard[str | os.PathLike]:
    """Whether a path names a protocol, as "s3://bucket/run.zarr" does."""
    return isinstance(place, str | os.PathLike) and ADDRESS.match(str(os.fspath(place))) is not None


def local_path(place: str | os.PathLike, where: str, remedy: str = "Name a path on this machine.") -> Path:
    """The path. ValueError for an address, of which pathlib would make folders here."""
    if is_address(place):
        raise ValueError(f"{where}: {os.fspath(place)!r} is an address, not a path on this machine. {remedy}")
    return Path(place)
