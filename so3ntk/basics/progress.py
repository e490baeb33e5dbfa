"""How long runs show that they go on: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

#: Seconds between two lines of a log.
PERIOD = 60.0
LINE = "{desc}: {percentage:3.0f} %, {n_fmt}/{total_fmt}{unit} in {elapsed}, {remaining} left, {rate_fmt}"


class Progress(Protocol):
    """What is told of work done."""

    def update(self, n: float = 1) -> object:
        """So many units more are done."""


class Lines:
    """A line for every ``PERIOD`` seconds in which something was done, and one at the end."""

    def __init__(self, total: int, unit: str, title: str, stream: Any):
        self.total, self.unit, self.title, self.stream = total, unit, title, stream
        self.done: float = 0
        self.begun = self.said = time.monotonic()

    def update(self, n: float = 1) -> None:
        """So many units more are done."""
        self.done += n
        if time.monotonic() - self.said >= PERIOD:
            self.say()

    def say(self) -> None:
        """Write where we are."""
        self.said = time.monotonic()
        print(
            tqdm.format_meter(
                self.done, self.total, self.said - self.begun, prefix=self.title, unit=self.unit, unit_scale=True,
                bar_format=LINE,
            ),
            file=self.stream,
            flush=True,
        )  # fmt: skip


@contextmanager
def show_progress(total: int, unit: str, title: str, shown: bool) -> Iterator[Progress]:
    """Something to ``update`` while so many units are worked on; it writes to standard error, or nowhere."""
    stream = sys.stderr
    if not shown or is_screen(stream):
        with tqdm(total=total, unit=unit, unit_scale=True, disable=not shown, desc=title) as bar:
            yield bar
        return
    lines = Lines(total, unit, title, stream)
    yield lines
    lines.say()


def is_screen(stream: Any) -> bool:
    """Whether a line that is written anew stays one line: on a terminal, and below a cell of a notebook."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel.")
