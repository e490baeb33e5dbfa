"""The Gram matrix of a network as an array that computes what is read of it and keeps nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from so3ntk.engine.network import Network
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.gram import gram
from so3ntk.matrices.kernel_matrix import Index, KernelMatrix


class LazyGram(KernelMatrix):
    """K(x, x) of a network: ``g[rows, columns]`` with slices or arrays of indices computes these kernels.

    For ``solve(LazyGram(net, x), y, ridge, method="nystrom")``, which reads n rank of its entries. Conjugate gradients
    work too, but compute all n^2 anew in each step: store the matrix instead.
    """

    random_access = True

    def __init__(self, net: Network, x: Any, kernel: str = "ntk", memory: str | int = "2GiB", progress: bool = False):
        self.net, self.x, self.kernel = net, x, kernel
        self.options = {"memory": memory, "progress": progress}
        self.shape = (len(x), len(x))
        self.dtype = np.dtype(gram(net, x[:0], get=kernel, progress=False).dtype)

    def __getitem__(self, index: tuple[Index, Index]) -> Float[np.ndarray, "a b"]:
        rows, columns = index
        return np.asarray(gram(self.net, self.x[rows], self.x[columns], self.kernel, **self.options))

    def diagonal(self) -> Float[np.ndarray, " n"]:
        """K(x, x) of each input."""
        return np.asarray(kernel_diagonal(self.net, self.x, self.kernel), np.float64)
