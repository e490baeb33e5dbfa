"""Plant the faults of ``faults.py`` one by one in a copy of the repository, and see whether a test fails.

Each fault is applied, its tests are run up to the first failure, and the fault is taken out again. What failed is run once
more without the fault: it must pass, or the tree or the environment is broken and the run stops. A line of JSON for each
fault is added to the results, and faults that are there already are not planted again, so that a run goes on later.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from fault import Fault
from faults import FAULTS

#: Exit codes of pytest: all passed, and some failed. With 2 it may have met an error while collecting.
PASSED, FAILED, INTERRUPTED = 0, 1, 2


def main() -> int:
    """Plant the faults asked for, and print the table."""
    args = parse_arguments()
    chosen = select(args.only)
    done = {name for name, line in read(args.results).items() if is_final(line, args.whole)}
    todo = [fault for fault in chosen if fault.name not in done]
    check(args.tree, todo)
    with copies(args.tree, min(args.workers, len(todo))) as free, ThreadPoolExecutor(args.workers) as pool:
        lock = threading.Lock()
        futures = [pool.submit(plant, fault, free, args.whole, args.results, lock) for fault in todo]
        try:
            for future in futures:
                future.result()
        finally:  # the first error, or an interrupt, ends the run: what is planted is finished
            pool.shutdown(cancel_futures=True)
    print(table(chosen, read(args.results)))
    return 0


def parse_arguments() -> argparse.Namespace:
    """The options; ``--help`` states them."""
    parser = argparse.ArgumentParser(description="Measure what a test suite catches, with planted faults.")
    add = parser.add_argument
    add("--tree", type=Path, default=Path(__file__).parents[2], help="the repository to copy; default: this one")
    add("--only", nargs="+", metavar="NAME", help="plant these faults; default: all")
    add("--results", type=Path, default=Path("planted.jsonl"),
        help="file of the results, which are added to; default: planted.jsonl in the current directory")  # fmt: skip
    add("--whole", action="store_true", help="run the whole suite on a fault that its own tests do not catch")
    add("--workers", type=int, default=1, help="how many faults are planted at a time, each in a copy; default: 1")
    args = parser.parse_args()
    if args.workers < 1:
        parser.error("--workers: expected a positive number")
    args.tree, args.results = args.tree.resolve(), args.results.resolve()
    return args


def select(names: Iterable[str] | None) -> list[Fault]:
    """The faults of these names, all for None. SystemExit for a name that is not there, or twice in the list."""
    known = {fault.name: fault for fault in FAULTS}
    if len(known) < len(FAULTS):
        sys.exit("two faults have the same name")
    unknown = [name for name in names or () if name not in known]
    if unknown:
        sys.exit(f"unknown faults: {', '.join(unknown)}")
    return list(FAULTS) if names is None else [known[name] for name in names]


def check(tree: Path, faults: Iterable[Fault]) -> None:
    """SystemExit, before anything runs, unless each fault has one place in the tree and its tests are there."""
    problems = []
    for fault in faults:
        file = tree / fault.file
        count = file.read_text().count(fault.old) if file.is_file() else 0
        if count != 1 or fault.new == fault.old:
            problems.append(f"{fault.name}: what it replaces occurs {count} times in {fault.file}")
        problems += [f"{fault.name}: no tests {test}" for test in fault.tests if not (tree / path_of(test)).exists()]
    if problems:
        sys.exit("\n".join(problems))


def path_of(test: str) -> str:
    """The file or folder of a test."""
    return test.partition("::")[0]


@contextmanager
def copies(tree: Path, count: int) -> Iterator[SimpleQueue[Path]]:
    """So many copies of the tree, removed in the end."""
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        for number in range(count):
            copy = Path(folder, str(number))
            copy_tree(tree, copy)
            require_own_packages(copy)
            free.put(copy)
        yield free


def copy_tree(tree: Path, copy: Path) -> None:
    """The files that git tracks or would track, as they are now."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (tree / name).is_file():  # a file that was deleted is listed still
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, copy / name)


def run_python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """This interpreter in a copy, with the packages of that copy and no byte code: times of files do not tell faults."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def require_own_packages(copy: Path) -> None:
    """RuntimeError if the packages would be imported from elsewhere, as from an installed version."""
    done = run_python(copy, "-c", "import so3ntk, planar; print(so3ntk.__file__); print(planar.__file__)")
    found = [Path(line) for line in done.stdout.splitlines()]
    if len(found) != 2 or not all(path.resolve().is_relative_to(copy.resolve()) for path in found):
        raise RuntimeError(f"expected the packages of {copy}, got {done.stdout or done.stderr}")


def plant(fault: Fault, free: SimpleQueue[Path], whole: bool, results: Path, lock: threading.Lock) -> None:
    """Measure one fault in a free copy, and write down what was found."""
    copy = free.get()
    try:
        found = measure(fault, copy, whole)
    finally:
        free.put(copy)
    with lock:
        print(f"{fault.name}: {words(found)} ({found['seconds']} s)", flush=True)
        if found["stage"] != "skipped":  # where they can run, another run measures it
            with open(results, "a") as file:
                file.write(json.dumps(found) + "\n")


def measure(fault: Fault, copy: Path, whole: bool) -> dict:
    """The line of a fault's results. RuntimeError if what fails does so without the fault."""
    # One after the other: given several, pytest drops a test that is part of another argument, and so its place.
    runs = [("own tests", test) for test in fault.tests] + [("whole suite", "tests")] * whole
    started, by, stage = time.perf_counter(), None, "skipped"
    with planted(fault, copy):
        for name, test in runs:
            by, ran = first_failure(copy, test)
            stage = name if ran else stage
            if by is not None:
                break
    seconds = round(time.perf_counter() - started, 1)
    if by is not None and first_failure(copy, by)[0] is not None:
        raise RuntimeError(f"{by} fails without the fault {fault.name}, too")
    found = {"name": fault.name, "file": fault.file, "caught": by is not None, "by": by}
    return {**found, "seconds": seconds, "stage": stage}


@contextmanager
def planted(fault: Fault, copy: Path) -> Iterator[None]:
    """The copy with the fault, which is taken out in the end."""
    file = copy / fault.file
    content = file.read_text()
    file.write_text(content.replace(fault.old, fault.new))
    try:
        yield
    finally:
        file.write_text(content)


def first_failure(copy: Path, test: str) -> tuple[str | None, bool]:
    """The first test of a file or folder that fails, and whether any ran. RuntimeError where pytest could not run them."""
    options = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--rootdir", str(copy))
    done = run_python(copy, "-m", "pytest", *options, test)
    output = done.stdout + done.stderr
    if done.returncode == PASSED:
        return None, re.search(r"\d+ passed", output) is not None
    if done.returncode == FAILED or (done.returncode == INTERRUPTED and "ERROR collecting" in output):
        return node_id(output), True
    raise RuntimeError(f"pytest ended with {done.returncode} on {test}:\n{output[-3000:]}")


def node_id(output: str) -> str:
    """The first test in pytest's summary: "FAILED tests/test_a.py::test_b - what was wrong"."""
    summary = output.rpartition("short test summary info")[2]  # what tests print comes before it
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", summary, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no failure in what pytest says:\n{output[-3000:]}")
    return found[1]


def read(results: Path) -> dict[str, dict]:
    """The last line of each fault in a file of results, by its name; none where there is no file."""
    lines = results.read_text().splitlines() if results.is_file() else []
    return {line["name"]: line for line in map(json.loads, lines)}


def is_final(line: dict, whole: bool) -> bool:
    """Whether there is nothing more to run: a fault that its own tests miss may be tried on the whole suite."""
    return line["caught"] or line["stage"] == "whole suite" or not whole


def words(found: dict) -> str:
    """What caught a fault."""
    if found["stage"] == "skipped":
        return "its tests are skipped in this environment"
    return found["by"] if found["caught"] else f"not caught ({found['stage']})"


def table(faults: Iterable[Fault], lines: dict[str, dict]) -> str:
    """The results of some faults in Markdown, and how many are caught."""
    chosen = [lines[fault.name] for fault in faults if fault.name in lines]
    caught = sum(line["caught"] for line in chosen)
    rows = [f"| {line['name']} | {words(line)} | {line['seconds']:.0f} |" for line in chosen]
    head = ["| fault | caught by | seconds |", "| --- | --- | ---: |"]
    return "\n".join([*head, *rows, "", f"{caught} of {len(chosen)} faults are caught."])


if __name__ == "__main__":
    sys.exit(main())
