"""How programs are compiled: quickly, as tests/conftest.py has it, or as users' are."""

import contextlib
import os

import jax

#: Whether tests compile without most of XLA's optimisations.
QUICK = not os.environ.get("SO3NTK_TESTS_OPTIMIZED")


@contextlib.contextmanager
def optimized():
    """As users' programs are: for what computes more than it compiles."""
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", QUICK)
