"""The estimate before a run: counts against counting, time against a run."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import Dense, Erf, Flatten, GroupPool, Lift, ProductGrid, Relu, SphereSignal, estimate, gram, serial
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.harmonics import white_signals

NET = serial(Flatten(), Dense(b_std=0.3), Erf(), Dense())


def signals(n, seed=0):
    return SphereSignal(jnp.asarray(white_signals(n, 2, 1, seed)), 2)


def test_counts():
    """Pairs of parts in tiles on and below the diagonal; bytes of the result."""
    found = estimate(NET, signals(37), get=("nngp", "ntk"), tile=10, seconds=0.01)
    assert found.tiles == 10
    assert found.pairs == 37 * 37 - (10 * 27 + 10 * 17 + 10 * 7)
    assert found.result == 2 * 37 * 37 * 8
    assert 0 < found.seconds < 10
    assert found.pairs_per_second == pytest.approx(found.pairs / found.seconds)
    assert "10 tiles of up to 10 x 10" in str(found)
    numbers, owner = np.array([1, 6, 1, 1, 8, 6]), np.array([0, 0, 1, 1, 1, 2])
    x = Environments(signals(6), owner, numbers)
    net = serial(*NET.layers, AtomSum(match_species=True))
    pairs = sum(numbers[a] == numbers[b] for a in range(6) for b in range(6))
    assert estimate(net, x, seconds=0.01).pairs == pairs
    assert estimate(net, x, x[:1], seconds=0.01).pairs == sum(
        numbers[a] == numbers[b] for a in range(6) for b in (0, 1)
    )
    assert estimate(net, x[:0], seconds=0.01).pairs == 0
    with pytest.raises(MemoryError, match="need"):
        estimate(NET, signals(3), memory=1)


@pytest.mark.usefixtures("optimized")
def test_time():
    """Within a factor of four of a run, on a machine that does other work."""
    net = serial(Lift(b_std=0.3), Relu(), GroupPool(), Dense(), quadrature=ProductGrid(12), rtol=0.9)
    x = signals(500)
    guess = estimate(net, x, seconds=0.3)
    start = time.perf_counter()
    gram(net, x, progress=False)  # its program was compiled for the estimate
    spent = time.perf_counter() - start
    assert spent / 4 < guess.seconds < 4 * spent


@pytest.mark.parametrize("seconds", [0, -1.0, np.nan, np.inf, "1", True])
def test_times_to_measure_for(seconds):
    with pytest.raises(
        ValueError, match="estimate: expected seconds, the time to measure for, to be a number > 0, got"
    ):
        estimate(NET, signals(3), seconds=seconds)
