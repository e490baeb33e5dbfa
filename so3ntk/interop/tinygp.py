r"""Kernels of networks in tinygp.

    import tinygp
    from so3ntk.interop.tinygp import NetworkKernel

    def process(log):
        net = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(W_std=jnp.exp(log["W"])), so3ntk.Relu(), so3ntk.Dense())
        return tinygp.GaussianProcess(NetworkKernel(net), x, diag=jnp.exp(log["noise"]))

    slope = jax.grad(lambda log: -process(log).log_probability(y))

A kernel is a pytree whose leaves are the hyperparameters of its network: ``jax.grad`` of a function of the kernel has such a
kernel of derivatives, which optax and other optimisers take.
"""

from __future__ import annotations

import importlib
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from so3ntk.engine.network import Network
from so3ntk.interop.leaves import checked_network

try:
    _Kernel: Any = importlib.import_module("tinygp.kernels").Kernel  # by name: a type checker takes this file for it
except ImportError as error:
    raise ImportError("so3ntk.interop.tinygp needs tinygp: pip install 'so3ntk[tinygp]'.") from error


class NetworkKernel(_Kernel):
    """The NTK or NNGP of a network: K(x, x') of inputs that it reads, arrays or other pytrees such as ``SphereSignal``.

    net: a ``Network``; None for ``default_network`` on arrays (n, d). kernel: "ntk" or "nngp". Adds and multiplies with
    tinygp's kernels. A Gram matrix, which tinygp asks for as k(X, X), is one call of the network's ``kernel_fn``, in the
    precision of the inputs; tinygp's conditioned kernels, sums and products ask pair by pair, which is slower.
    Raises TypeError and ValueError for what is no network whose kernels are numbers.
    """

    net: Network
    kernel: str = eqx.field(static=True)

    def __init__(self, net: Network | None = None, kernel: str = "ntk"):
        self.net, self.kernel = checked_network(net, kernel, "NetworkKernel"), kernel

    def __call__(self, X1: Any, X2: Any = None) -> Float[Array, " n *m"]:
        """K (n, m) of two batches; with X2 None, as tinygp has it, the diagonal (n,)."""
        if X2 is None:
            return jax.vmap(self.evaluate_diag)(X1)
        return self.net.kernel_fn(X1, None if X2 is X1 else X2, self.kernel)

    def evaluate(self, X1: Any, X2: Any) -> Float[Array, ""]:
        """K of two single inputs."""
        first, second = (jax.tree.map(lambda a: a[None], x) for x in (X1, X2))
        return self.net.kernel_fn(first, second, self.kernel)[0, 0]

    def evaluate_diag(self, X: Any) -> Float[Array, ""]:
        """K of an input with itself."""
        return self.net.kernel_fn(jax.tree.map(lambda a: a[None], X), None, self.kernel)[0, 0]
