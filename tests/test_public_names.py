"""What ``import so3ntk`` offers, when it is imported, and that tests/consumer uses every name of it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import planar
import so3ntk

CONSUMER = Path(__file__).parent / "consumer" / "consumer.py"
PACKAGES = {
    "so3ntk": so3ntk,
    "planar": planar,
    **{name: getattr(so3ntk, name) for name in ("molecules", "predict", "saving", "solvers", "training")},
    "datasets": planar.datasets,
}
#: Brought by estimators, hyperparameters, molecules and pictures, and by nothing else.
LATE = (
    "sklearn",
    "pandas",
    "scipy.stats",
    "scipy.optimize",
    "ase",
    "matplotlib",
    "optax",
    "so3ntk.molecules",
    "so3ntk.learning.predict",
)

FRESH = f"""
import json, sys
import so3ntk
loaded = [name for name in {LATE} if name in sys.modules]
missing = [name for name in so3ntk.__all__ if name not in dir(so3ntk)]
names = [type(getattr(so3ntk, name)).__name__ for name in so3ntk.__all__]
later = so3ntk.molecules.environments, so3ntk.predict.ensemble, so3ntk.training.train, so3ntk.solvers.solve, so3ntk.saving.load
assert so3ntk.solve is so3ntk.solvers.solve
from so3ntk import molecules, KernelRegressor
print(json.dumps([loaded, missing, len(names) == len(so3ntk.__all__)]))
"""


def test_the_import_is_small_and_everything_is_there_after_it():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], [], True]


def test_names_that_do_not_exist():
    with pytest.raises(AttributeError, match="module 'so3ntk' has no attribute 'KernelRegresor'"):
        so3ntk.KernelRegresor  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_the_consumer_uses_every_name(package):
    """As ``package.name``, so that a type checker looks each of them up in the installed wheel."""
    nodes = ast.walk(ast.parse(CONSUMER.read_text()))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == package}
    used |= {
        "empirical",
        "hyperparameters",
        "interop",
        "molecules",
        "predict",
        "saving",
        "solvers",
        "training",
        "datasets",
    }
    assert set(PACKAGES[package].__all__) <= used
