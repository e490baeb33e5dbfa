"""What is chosen: numbers of each kind, distances, and pivots of a Cholesky decomposition."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from so3ntk.learning.inducing.selection import SELECTIONS, farthest, farthest_points, pivots, shares


@pytest.mark.parametrize("seed", range(5))
def test_shares_add_up(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 400, size=rng.integers(1, 6))
    for total in (1, len(counts), counts.sum() // 3, counts.sum() - 1, counts.sum()):
        chosen = shares(counts, max(1, int(total)))
        assert chosen.sum() == max(1, total)
        assert (chosen <= counts).all()
        assert (chosen >= 0).all()


def test_shares_are_in_proportion_with_a_few_of_each():
    np.testing.assert_array_equal(shares(np.array([500, 300, 200]), 100), [50, 30, 20])
    chosen = shares(np.array([9000, 900, 12]), 500)
    assert chosen[2] == 8
    assert abs(chosen[0] / chosen[1] - 10) < 0.3


def test_farthest_points():
    places = np.random.default_rng(0).normal(size=(60, 3))
    chosen = farthest_points(places, 20, 5)
    distances = cdist(places, places)
    for step in range(1, 20):
        assert np.isclose(distances[chosen[:step]].min(axis=0).max(), distances[chosen[:step], chosen[step]].min())


def test_farthest_is_in_the_kernels_metric():
    """A kernel of functions of few coordinates, which 128 landmarks see whole: the same points, but for the first."""
    places = np.random.default_rng(1).normal(size=(200, 4))
    kernel = lambda a, b: places[a] @ places[b].T  # noqa: E731
    chosen = farthest(kernel, np.arange(200), 15, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, farthest_points(places, 15, int(chosen[0])))


def test_pivots_are_those_of_lapack():
    from scipy.linalg.lapack import dpstrf

    basis = np.random.default_rng(2).normal(size=(30, 40))
    matrix = basis @ basis.T
    np.testing.assert_array_equal(pivots(matrix, 10), dpstrf(matrix, lower=1)[1][:10] - 1)


@pytest.mark.parametrize("name", SELECTIONS)
def test_parts_are_distinct_and_given(name):
    """Also where parts are equal, so that nothing is left of the kernel."""
    places = np.repeat(np.random.default_rng(3).normal(size=(6, 3)), 4, axis=0)
    kernel = lambda a, b: places[a] @ places[b].T  # noqa: E731
    parts = np.arange(0, 24, 2)
    chosen = SELECTIONS[name](kernel, parts, 9, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 9
    assert np.isin(chosen, parts).all()
