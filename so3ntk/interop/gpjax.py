r"""Kernels of networks in GPJax.

    import gpjax
    from so3ntk.interop.gpjax import NetworkKernel

    prior = gpjax.gps.Prior(kernel=NetworkKernel(net), mean_function=gpjax.mean_functions.Zero())
    posterior = prior * gpjax.likelihoods.Gaussian()
    trained, losses = gpjax.fit(model=posterior, objective=lambda p, d: -gpjax.objectives.conjugate_mll(p, d),
                                train_data=gpjax.Dataset(x, y), optim=optax.adam(0.05))

GPJax has inputs in rows (N, D). ``read`` makes of them what the network reads, as images: ``lambda x: x.reshape(-1, 8, 8, 1)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.network import Network
from so3ntk.interop.leaves import checked_network, hyperparameters, replaced

try:  # by name: a type checker takes this file for it
    _kernels: Any = importlib.import_module("gpjax.kernels")
    _computations: Any = importlib.import_module("gpjax.kernels.computations")
    _parameters: Any = importlib.import_module("gpjax.parameters")
except ImportError as error:
    raise ImportError("so3ntk.interop.gpjax needs gpjax 1.0: pip install 'so3ntk[gpjax]'.") from error


class _WholeBatches(_computations.DenseKernelComputation):
    """Gram matrices by one call of the network's kernel function, in place of one for each pair."""

    def _gram(self, kernel: Any, x: Any) -> Any:
        return kernel.matrix(x)

    def _cross_covariance(self, kernel: Any, x: Any, y: Any) -> Any:
        return kernel.matrix(x, y)


class NetworkKernel(_kernels.AbstractKernel):
    """The NTK or NNGP of a network, whose hyperparameters are positive parameters of GPJax, trained by its ``fit``.

    net: a ``Network``; None for ``default_network`` on rows (n, d). kernel: "ntk" or "nngp". read: a function from rows (n, d)
    to a batch that the network reads; None for the rows themselves. Of negative hyperparameters the sizes are trained and signs
    stay; zeros are constants. ``parameters`` holds them by name, such as ``layers_0_W_std``, and ``network`` puts their
    values into the network. Adds and multiplies with GPJax' kernels, which then ask pair by pair, which is slower.
    Raises TypeError and ValueError for what is no network whose kernels are numbers.
    """

    parameters: dict[str, Any]
    build: Callable = eqx.field(static=True)
    kernel: str = eqx.field(static=True)
    read: Callable | None = eqx.field(static=True)

    def __init__(self, net: Network | None = None, kernel: str = "ntk", read: Callable | None = None):
        net = checked_network(net, kernel, "NetworkKernel")
        known = {name: np.asarray(h, np.float64) for name, h in hyperparameters(net).items()}

        def build(sizes: dict[str, Any]) -> Network:
            """A function, so that what is not trained is out of sight of optimisers."""
            return replaced(
                net, {name: np.sign(h).astype(sizes[name].dtype) * sizes[name] for name, h in known.items()}
            )

        self.parameters = {name: _parameters.PositiveReal(jnp.asarray(np.abs(h))) for name, h in known.items()}
        self.build, self.kernel, self.read = build, kernel, read
        super().__init__(compute_engine=_WholeBatches())

    @property
    def network(self) -> Network:
        """The network with the parameters' values."""
        return self.build({name: _parameters.val(parameter) for name, parameter in self.parameters.items()})

    def matrix(self, x: Any, y: Any = None) -> Float[Array, "n m"]:
        """K of all pairs of rows; y None: of x with itself."""
        read = self.read or (lambda rows: rows)
        return self.network.kernel_fn(read(x), None if y is None else read(y), self.kernel)

    def __call__(self, x: Any, y: Any) -> Float[Array, ""]:
        """K of two rows."""
        return self.matrix(x[None], y[None])[0, 0]
