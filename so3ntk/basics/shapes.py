"""Sizes that follow the data, rounded up, so that a few compiled programs serve all of them."""

from __future__ import annotations


def rounded_up(n: int, least: int, coarse: int = 0) -> int:
    """The smallest of 4, 5, 6, 7 times a power of two that is at least n and ``least``: by up to a quarter more than n.

    Four sizes for each doubling: numbers up to a million come down to some sixty. Up to ``coarse`` powers of two alone, where a
    program takes longer to compile than to run on twice as much.
    """
    n = max(n, least)
    if n <= coarse:
        return 2 ** (n - 1).bit_length()
    step = 2 ** max(0, (n - 1).bit_length() - 3)
    return step * -(-n // step)
