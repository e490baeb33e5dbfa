"""What the benchmarks of regressions share: runs, each in a process of its own, and the file that keeps their results.

A run is a dictionary that JSON can hold, which says everything that its result depends on but versions and machine. Its record
is a line of the results file: the run, and what was found. Runs that have a line are not repeated, so that a benchmark that
was interrupted goes on where it was, and several benchmarks share one file. A line that was cut short counts for nothing.

A process of its own means that nothing is compiled and nothing cached, and that the peak of memory is the run's own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Run = dict[str, Any]


class Stopwatch:
    """Seconds of named stages: ``with clock("solve"): ...``; stages do not nest."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - begun)

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str, function: Callable) -> Callable:
        """The function, whose calls count for the stage."""

        def call(*args, **kwargs):
            with self(stage):
                return function(*args, **kwargs)

        return call


class Results:
    """A file of JSON lines that is only ever appended to."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def read(self) -> list[Run]:
        """All records; lines that are no JSON, as a killed process leaves them, are passed over."""
        found = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{self.path.name}: passed over a line that was cut short: {line[:60]!r}", file=sys.stderr)
        return found

    def append(self, record: Run) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size
        with open(self.path, "a") as file:
            file.write(("\n" if cut else "") + json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, runs: Sequence[Run]) -> list[Run]:
        """The records of some runs, in their order, of those that there are."""
        known = {key_of(record["run"]): record for record in self.read()}
        return [known[key_of(run)] for run in runs if key_of(run) in known]

    def complete(self, runs: Sequence[Run], measure: Callable[[Run], Run]) -> bool:
        """Measure the runs without a record, each in a fresh process, one after the other; whether all succeeded.

        A run that fails leaves its traceback on stderr and no record, and the others go on.
        """
        known = {key_of(record["run"]) for record in self.read()}
        missing = list({key_of(run): run for run in runs if key_of(run) not in known}.values())
        failed = 0
        for number, run in enumerate(missing, 1):
            print(f"[{number}/{len(missing)}] {json.dumps(run)[:160]}", file=sys.stderr, flush=True)
            try:
                self.append({"run": run, **in_fresh_process(measure, run)})
            except Exception:
                failed += 1
                traceback.print_exc()
        return not failed


def key_of(run: Run) -> str:
    return json.dumps(run, sort_keys=True)


def in_fresh_process(function: Callable, *args: Any) -> Any:
    """function(*args) in a new interpreter."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def peak_bytes() -> int:
    """The largest resident size of this process so far, by Linux's own record."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def surroundings(packages: Sequence[str]) -> Run:
    """Versions, the commit, and the machine: what a run depends on besides its description."""
    from so3ntk.basics.version import __version__

    root = Path(__file__).resolve().parents[1]
    described = ("git", "-C", str(root), "describe", "--always", "--dirty")
    try:
        commit = subprocess.run(described, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        commit = ""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "versions": {
            "python": platform.python_version(),
            "so3ntk": f"{__version__} {commit}".strip(),
            **_versions(packages),
        },
        "machine": {
            "processor": platform.machine(),
            "cores": len(affinity(0)) if affinity else os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        },
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
