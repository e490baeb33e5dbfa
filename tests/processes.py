"""Processes that tests start."""

import os


def optimized_environment() -> dict[str, str]:
    """For those that compute much: programs are compiled as users' are (see tests/conftest.py)."""
    return {name: value for name, value in os.environ.items() if name != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
