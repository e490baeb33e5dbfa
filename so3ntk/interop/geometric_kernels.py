r"""Kernels of networks beside those of GeometricKernels, on points of a sphere.

    from geometric_kernels.spaces import Hypersphere
    from so3ntk.interop.geometric_kernels import NetworkKernel

    kernel = NetworkKernel(Hypersphere(2), net)
    params = kernel.init_params()  # {"layers_1_W_std": ..., ...}
    k = kernel.K(params, x)

An input is a point, a unit vector of d + 1 coordinates, and the network a fully connected one on these: its kernels depend on the
angle between two points alone, k(x, x') = kappa(x . x'), as the heat and Matern kernels of that package do, from which they
differ in how fast eigenvalues fall with the degree. (Networks on *signals* on the sphere have no such counterpart there.)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from so3ntk.engine.demand import lifts_of
from so3ntk.engine.network import Network
from so3ntk.interop.leaves import checked_network, hyperparameters, replaced

try:  # by name: a type checker takes this file for it
    _base: Any = importlib.import_module("geometric_kernels.kernels.base")
    _spaces: Any = importlib.import_module("geometric_kernels.spaces")
except ImportError as error:
    raise ImportError(
        "so3ntk.interop.geometric_kernels needs geometric-kernels: pip install 'so3ntk[geometric-kernels]'."
    ) from error


class NetworkKernel(_base.BaseGeometricKernel):
    """The NTK or NNGP of a fully connected network as a kernel on a ``Hypersphere``, that is a zonal one.

    space: a ``Hypersphere``. net: a ``Network`` that begins with ``Flatten``; None for ``default_network``. kernel: "ntk" or
    "nngp". ``init_params`` are the network's hyperparameters by name, each as an array, of shape (1,) where it is a number.
    Kernels are arrays of JAX where the parameters are, and differentiable in both; else arrays of NumPy.
    Raises TypeError for another space, TypeError and ValueError for other networks.
    """

    def __init__(self, space: Any, net: Network | None = None, kernel: str = "ntk"):
        if not isinstance(space, _spaces.Hypersphere):
            raise TypeError(f"NetworkKernel: expected space to be a Hypersphere, got {space!r}.")
        self.net, self.kernel = checked_network(net, kernel, "NetworkKernel"), kernel
        if lifts_of(self.net.layers):
            raise ValueError("NetworkKernel: its inputs are points. Begin the network with Flatten().")
        super().__init__(space)

    def init_params(self) -> dict[str, np.ndarray]:
        """The hyperparameters of the network, as arrays of NumPy."""
        return {name: np.atleast_1d(np.asarray(h, np.float64)) for name, h in hyperparameters(self.net).items()}

    def K(self, params: Mapping[str, Any], X: Any, X2: Any = None, **kwargs: Any) -> Any:
        """The kernel (n, m) of points X (n, d + 1) and X2 (m, d + 1); X2 None: of X with itself."""
        net, (x, y) = self._network(params), (None if a is None else jnp.asarray(a) for a in (X, X2))
        return _as_given(params, net.kernel_fn(x, y, self.kernel))

    def K_diag(self, params: Mapping[str, Any], X: Any, **kwargs: Any) -> Any:
        """The kernel of each point with itself, (n,)."""
        net = self._network(params)
        return _as_given(params, jax.vmap(lambda x: net.kernel_fn(x[None], None, self.kernel)[0, 0])(jnp.asarray(X)))

    def _network(self, params: Mapping[str, Any]) -> Network:
        known = hyperparameters(self.net)
        values = {k: jnp.asarray(v).reshape(np.shape(known[k])) if k in known else v for k, v in params.items()}
        return replaced(self.net, values)


def _as_given(params: Mapping[str, Any], kernel: Any) -> Any:
    """In the library of the parameters."""
    return kernel if any(isinstance(value, jax.Array) for value in params.values()) else np.asarray(kernel)
