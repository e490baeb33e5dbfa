"""Tests run in double precision; what must also hold in single precision asks for float32 explicitly."""

import ctypes
import gc
import sys

import jax
import psutil
import pytest

jax.config.update("jax_enable_x64", True)

#: Bytes of a test process beyond which compiled programs are dropped.
MOST = 2 * 2**30


@pytest.fixture(autouse=True)
def _bounded_memory():
    """JAX keeps every program it compiled: those of the whole suite would fill a laptop's memory."""
    yield
    if psutil.Process().memory_info().rss > MOST:
        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux":  # else glibc keeps what was freed, and the next test would clear again
            ctypes.CDLL(None).malloc_trim(0)
