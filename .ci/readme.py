"""Run each Python block of the README by itself, in a fresh process and an empty folder, and compare what it prints.

``print(x)  # 4.5`` states what that line prints: words as they stand, numbers to 10 %. Exits non-zero if a block fails or
prints something else. Needs the extras of the tests and qm9pack.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
TOLERANCE = 0.1
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?")


def blocks(text: str) -> list[str]:
    """The sources of all blocks that are marked as Python."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def stated(block: str) -> list[str]:
    """What a block says that it prints, line by line."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", block, re.M)


def same(printed: str, expected: str) -> bool:
    """Whether a line is the one that was stated: the words to the letter, the numbers nearly."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", expected):
        return False
    pairs = zip(map(float, NUMBER.findall(printed)), map(float, NUMBER.findall(expected)), strict=True)
    return all(abs(a - b) <= TOLERANCE * abs(b) for a, b in pairs)


def run(number: int, block: str) -> bool:
    """Run one block, print how it went."""
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
    printed, expected = done.stdout.splitlines(), stated(block)
    good = done.returncode == 0 and len(printed) == len(expected) and all(map(same, printed, expected))
    print(
        f"README, block {number}: {'as stated' if good else 'NOT as stated'}, {time.time() - began:.0f} s", flush=True
    )
    if not good:
        print(f"stated  {expected}\nprinted {printed}\n{done.stderr}")
    return good


if __name__ == "__main__":
    found = blocks(README.read_text())
    results = [run(number, block) for number, block in enumerate(found, 1)]
    sys.exit(not (found and all(results)))
