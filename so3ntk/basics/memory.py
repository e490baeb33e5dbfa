"""Memory that a process holds without using it."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys


def give_back() -> None:
    """Hand what is free in this process back to the system, where the C library is glibc; elsewhere do nothing.

    glibc keeps free memory that lies below memory in use, as many blocks of changing sizes leave it: 0.6 of 1.5 GiB after the
    features of 10,000 molecules (measured), which the decomposition that follows would add to.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def total_memory() -> float:
    """Bytes of memory of this machine; infinity where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # no such call, as on Windows
        return math.inf
