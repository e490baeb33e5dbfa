"""The pages of the site that compute: run them, keep what they print and draw, and make Markdown of both.

    python .ci/tutorials.py                  # runs all pages under docs/ that are Python files, one process for each
    python .ci/tutorials.py sphere images    # these
    python .ci/tutorials.py --try start      # runs one here, and keeps nothing
    python .ci/tutorials.py --stale          # runs none: exits with 1 if a page was changed and not run

A page is a Python file in cells, as editors and Jupytext read it: ``# %% [markdown]`` opens text, ``# %%`` code,
``# %% tags=["hide"]`` code that is run and not shown, ``# %% tags=["shell"]`` commands of a shell, as comments. What cells
print goes to docs/outputs, pictures to docs/pictures/made; both are kept with the code's checksum, so that a build of the
site needs none of it computed, and notices when a page was changed and not run.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
OUTPUTS, PICTURES = DOCS / "outputs", DOCS / "pictures" / "made"
HEAD = re.compile(r'^# %%(?: (\[markdown\]|tags=\["(\w+)"\]))?\n', re.M)


class Cell(NamedTuple):
    """kind: "text", "code", "hide" or "shell"; source: Markdown, Python or commands."""

    kind: str
    source: str


def pages() -> list[Path]:
    """The Python files under docs."""
    return sorted(DOCS.rglob("*.py"))


def cells_of(page: Path) -> list[Cell]:
    """The cells of a page; what stands before the first one is left out."""
    parts = HEAD.split(page.read_text())[1:]
    cells = []
    for head, tag, source in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        kind = "text" if head == "[markdown]" else tag or "code"
        plain = re.sub(r"^# ?", "", source, flags=re.M) if kind in ("text", "shell") else source
        cells.append(Cell(kind, plain.strip("\n")))
    return cells


def checksum(cells: list[Cell]) -> str:
    """Of what is run."""
    return hashlib.sha256("\n".join(kind + source for kind, source in cells if kind != "text").encode()).hexdigest()


def save_pictures(name: str, number: int) -> list[str]:
    """Write the figures that are open, at a phone's resolution and small, and close them: their file names."""
    if "matplotlib" not in sys.modules:
        return []
    import matplotlib.pyplot as plt
    from PIL import Image

    names = []
    for figure in map(plt.figure, plt.get_fignums()):
        names.append(f"{name}-{number}-{len(names) + 1}.webp")
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=170)
        Image.open(drawn).convert("RGB").save(PICTURES / names[-1], quality=88, method=6)
    plt.close("all")
    return names


def run_cell(cell: Cell, namespace: dict) -> str:
    """What the cell prints."""
    if cell.kind == "shell":
        commands = cell.source.replace("\\\n", " ")
        done = subprocess.run(["bash", "-ec", commands], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{commands}\n{done.stdout}\n{done.stderr}")
        return done.stdout
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(cell.source, "page", "exec"), namespace)
    return printed.getvalue()


def try_page(page: Path) -> None:
    """Run a page in an empty folder and show what it prints."""
    os.environ["MPLBACKEND"] = "agg"
    namespace: dict = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell in cells_of(page):
            print(run_cell(cell, namespace) if cell.kind != "text" else "", end="", flush=True)


def run(page: Path) -> None:
    """Run a page in an empty folder and write its outputs."""
    os.environ.setdefault("MPLBACKEND", "agg")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = f"{DOCS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    sys.path.insert(0, str(DOCS.parent))
    for folder in (OUTPUTS, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    cells, namespace, results = cells_of(page), {"__name__": "__main__"}, []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number, cell in enumerate(cells, 1):
            text = "" if cell.kind == "text" else run_cell(cell, namespace)
            results.append({"text": text.rstrip(), "pictures": save_pictures(page.stem, number)})
    drawn = {name for cell in results for name in cell["pictures"]}
    for picture in PICTURES.glob(f"{page.stem}-*.webp"):
        if picture.name not in drawn:
            picture.unlink()
    found = {"checksum": checksum(cells), "seconds": round(sum(os.times()[:4])), "cells": results}
    (OUTPUTS / f"{page.stem}.json").write_text(json.dumps(found, indent=1) + "\n")


def stored(page: Path) -> tuple[dict, list[str]]:
    """What was kept of a page's last run, and its pictures."""
    file = OUTPUTS / f"{page.stem}.json"
    found = json.loads(file.read_text()) if file.exists() else {"checksum": "", "seconds": 0, "cells": []}
    return found, [name for cell in found["cells"] for name in cell["pictures"]]


def markdown(page: Path) -> tuple[str, bool]:
    """The page with its stored outputs, and whether these are of its code."""
    cells, (found, _) = cells_of(page), stored(page)
    fresh = found["checksum"] == checksum(cells)
    up = "../" * (len(page.relative_to(DOCS).parts) - 1)
    blocks = []
    outputs = found["cells"] if fresh else [{"text": "", "pictures": []}] * len(cells)
    for cell, out in zip(cells, outputs, strict=True):
        if cell.kind == "text":
            blocks.append(cell.source)
        elif cell.kind != "hide":
            blocks.append(f"```{'bash' if cell.kind == 'shell' else 'python'}\n{cell.source}\n```")
        if out["text"]:
            blocks.append(f"```{{ .text .output }}\n{out['text']}\n```")
        blocks += [f"![{page.stem}]({up}pictures/made/{name})" for name in out["pictures"]]
    blocks.append(
        f"*This page is a program, [{page.name}]({page.name}): running it took {found['seconds']} s "
        "of one core, imports and compilation included.*"
    )
    return "\n\n".join(blocks) + "\n", fresh


def main(names: list[str]) -> int:
    """Run the pages of these names, or all, each in a process of its own."""
    found = [page for page in pages() if not names or page.stem in names]

    def run_apart(page: Path) -> int:
        began = time.time()
        status = subprocess.run([sys.executable, __file__, "--run", str(page)], check=False).returncode
        print(f"{page.relative_to(DOCS)}: {'failed' if status else f'{time.time() - began:.0f} s'}", flush=True)
        return status

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as two:  # of one core each, nearly
        return int(any(list(two.map(run_apart, found))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["--try"]:
        try_page(next(page for page in pages() if page.stem == sys.argv[2]))
    elif sys.argv[1:2] == ["--stale"]:
        stale = [page.name for page in pages() if not markdown(page)[1]]
        sys.exit(f"changed and not run: {', '.join(stale)}" if stale else 0)
    else:
        sys.exit(main(sys.argv[1:]))
