"""kernel_diagonal against the diagonal of the matrix."""

from typing import Any

import numpy as np
import pytest

from so3ntk import gram
from so3ntk.matrices.diagonal import kernel_diagonal
from tests.regression_cases import EPS, INVARIANT, MLP, MOLECULAR, molecules, signals


@pytest.mark.parametrize(
    ("net", "x", "get"),
    [
        (MLP, signals()[0], "ntk"),
        (MLP, signals()[0], "nngp"),
        (INVARIANT, signals(8)[0], "ntk"),
        (MOLECULAR, molecules()[0], "ntk"),
        (MOLECULAR, molecules()[0], "nngp"),
    ],
)
def test_diagonal_is_that_of_the_gram_matrix(net, x, get):
    diagonal = kernel_diagonal(net, x, get)
    expected = np.diag(gram(net, x, get=get, progress=False))
    np.testing.assert_allclose(diagonal, expected, rtol=1e3 * EPS)
    assert diagonal.dtype == expected.dtype
    assert kernel_diagonal(net, x[:0], get).shape == (0,)


def test_diagonal_of_many_and_of_wrong_arguments():
    x, _ = signals(130)  # more than one chunk
    expected = np.concatenate([np.diag(gram(MLP, x[i : i + 13], progress=False)) for i in range(0, 130, 13)])
    np.testing.assert_allclose(kernel_diagonal(MLP, x), expected, rtol=1e3 * EPS)
    wrong: list[Any] = ["ntks", ("ntk", "nngp")]
    for get in wrong:
        with pytest.raises(ValueError, match=r"get: expected|kernel_diagonal: expected get"):
            kernel_diagonal(MLP, x, get)
