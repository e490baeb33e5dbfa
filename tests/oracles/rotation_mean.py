r"""The theorem, taken at its word: the kernel of the group network is the mean of the fully connected network's kernel

.. math:: \Theta^{GCNN}(f, f') = \sum_r w_r\, \Theta^{MLP}(f, \rho(r) f')

over the rotations of a grid. Plain NumPy: the signals are rotated one by one, and every rotation runs the recursion of
a fully connected network. Source: Misof, Kessel, Gerken, Equivariant Neural Tangent Kernels (2025).
"""

from __future__ import annotations

import numpy as np

from tests.oracles.duals import mlp
from tests.oracles.harmonics import rotated


def rotation_mean(f: np.ndarray, g: np.ndarray, matrices: np.ndarray, weights: np.ndarray, layers) -> tuple:
    """NNGP and NTK, each (n, m), for coefficients (n, p, c) and (m, p, c).

    layers: those of ``duals.mlp``: pairs (W_std, b_std), the first of them the lifting, and names of activations. Group
    convolutions are dense layers here, and so are those after pooling, which commute with the mean.
    """
    norm = 4 * np.pi * f.shape[2]  # kernels average over the sphere and over channels
    correlation = np.einsum("npc,rmpc->nmr", f, rotated(g, matrices), optimize=True) / norm
    q1, q2 = (np.sum(a**2, axis=(1, 2)) / norm for a in (f, g))
    kernels = mlp(correlation, q1[:, None, None], q2[None, :, None], layers)
    return tuple(kernel @ weights for kernel in kernels)
