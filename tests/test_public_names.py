"""What ``import so3ntk`` offers, and that tests/consumer uses every name of it."""

import ast
from pathlib import Path

import pytest

import planar
import so3ntk

CONSUMER = Path(__file__).parent / "consumer" / "consumer.py"
PACKAGES = {
    "so3ntk": so3ntk,
    "planar": planar,
    **{name: getattr(so3ntk, name) for name in ("molecules", "predict", "saving", "solvers", "spectra", "training")},
    "datasets": planar.datasets,
}


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
        "spectra",
        "training",
        "datasets",
    }
    assert set(PACKAGES[package].__all__) <= used
