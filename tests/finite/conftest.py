"""For tests that compile much and compute little: XLA's optimisations cost more than they save."""

import jax
import pytest


@pytest.fixture
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
