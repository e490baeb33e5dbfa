"""Run every example that has --quick, in an empty folder for each: each must end well and say in JSON what its numbers are of.

python .ci/examples.py results        # all; results/NAME holds what NAME wrote
python .ci/examples.py results maps   # these
"""

import json
import subprocess
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, out: Path) -> bool:
    """Whether an example ended well and wrote what it should."""
    began = time.time()
    command = [sys.executable, EXAMPLES / f"{name}.py", "--quick", "--out", out / name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    heads = [json.loads(file.read_text()) for file in (out / name).glob("*.json")]
    good = done.returncode == 0 and heads and all({"schema", "versions", "data_sha256"} <= set(head) for head in heads)
    print(f"{name}: {'well' if good else 'NOT well'}, {time.time() - began:.0f} s", flush=True)
    if not good:
        print(done.stdout, done.stderr, sep="\n")
    return bool(good)


if __name__ == "__main__":
    folder, names = (
        Path(sys.argv[1]),
        sys.argv[2:] or sorted(path.stem for path in EXAMPLES.glob("*.py") if "read_options(" in path.read_text()),
    )
    results = [run(name, folder) for name in names]
    sys.exit(not (results and all(results)))
