"""What the packages' sources may not contain."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_internals_of_jax():
    """Of ``jax.core`` only ``Tracer``, which JAX documents: the rest of it comes and goes."""
    offending = re.compile(r"jax\._src|from jax import .*\bcore\b|jax\.core(?!\.Tracer\b| import Tracer$)", re.M)
    assert offending.search("from jax.core import Tracer, Trace")
    for path in sources("so3ntk", "planar"):
        assert not offending.search(path.read_text()), path


def test_no_file_is_too_long():
    files = sources("so3ntk", "planar", "tests", "benchmarks", "examples")
    assert len(files) > 50
    assert {str(path.relative_to(ROOT)): n for path in files if (n := len(path.read_text().splitlines())) > 400} == {}
