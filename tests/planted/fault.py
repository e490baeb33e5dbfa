"""What a fault is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """``old``, which occurs once in ``file`` (from the root of the repository), becomes ``new``.

    tests: files, folders and single tests of that part, in the order in which they are run.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
