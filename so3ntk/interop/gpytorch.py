r"""Kernels of networks in GPyTorch, and so in BoTorch.

    import gpytorch
    from so3ntk.interop.gpytorch import NetworkKernel

    class Model(gpytorch.models.ExactGP):
        def __init__(self, x, y, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module, self.covar_module = gpytorch.means.ConstantMean(), NetworkKernel(net)

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

GPyTorch has inputs in rows (..., N, D). ``read`` makes of them what the network reads, as images:
``lambda x: x.reshape(-1, 8, 8, 1)``. Arrays change hands by DLPack, and derivatives, in the rows and in the
hyperparameters, are those of ``jax.vjp``. Rows in float64 need ``jax_enable_x64``: else TypeError.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.network import Network
from so3ntk.interop.leaves import checked_network, hyperparameters, replaced

try:  # by name: a type checker takes this file for it
    torch: Any = importlib.import_module("torch")
    gpytorch: Any = importlib.import_module("gpytorch")
except ImportError as error:
    raise ImportError("so3ntk.interop.gpytorch needs gpytorch and torch: pip install 'so3ntk[gpytorch]'.") from error


class NetworkKernel(gpytorch.kernels.Kernel):
    """The NTK or NNGP of a network, whose hyperparameters are positive parameters of GPyTorch.

    net: a ``Network``; None for ``default_network`` on rows (n, d). kernel: "ntk" or "nngp". read: a function, in jax.numpy, from
    rows (n, d) to a batch that the network reads; None for the rows themselves. dtype: of the parameters; None for torch's
    default. Each hyperparameter h that is not zero is a parameter ``raw_layers_0_W_std`` under a constraint
    ``Positive``: the size |h|, while the sign stays. ``network()`` has their values. Batches of rows (..., n, d) are
    taken one by one; batches of hyperparameters (``batch_shape``) there are none.
    Raises TypeError and ValueError for what is no network whose kernels are numbers, and for rows of a dtype that JAX has not.
    """

    has_lengthscale = False
    is_stationary = False

    def __init__(
        self,
        net: Network | None = None,
        kernel: str = "ntk",
        read: Callable | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.net, self.kernel, self.read = checked_network(net, kernel, "NetworkKernel"), kernel, read
        self.signs = {name: np.sign(np.asarray(h)) for name, h in hyperparameters(self.net).items()}
        for name, h in hyperparameters(self.net).items():
            constraint = gpytorch.constraints.Positive()
            size = torch.as_tensor(np.abs(np.asarray(h, np.float64)), dtype=dtype or torch.get_default_dtype())
            self.register_parameter(f"raw_{name}", torch.nn.Parameter(constraint.inverse_transform(size)))
            self.register_constraint(f"raw_{name}", constraint)

    def sizes(self) -> dict[str, Any]:
        """|h| of each hyperparameter, as tensors with gradients."""
        return {
            name: getattr(self, f"raw_{name}_constraint").transform(getattr(self, f"raw_{name}")) for name in self.signs
        }

    def network(self) -> Network:
        """The network with the parameters' values."""
        values = {name: self.signs[name] * size.detach().cpu().numpy() for name, size in self.sizes().items()}
        return replaced(self.net, values)

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        """K (..., n, m) of rows; diag: (..., n), of each row of x1 with the one of x2."""
        if params.get("last_dim_is_batch"):
            raise ValueError("NetworkKernel: last_dim_is_batch: a network reads all columns of a row at once.")
        sizes = [size.to(x1.dtype) for size in self.sizes().values()]
        shape = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        firsts, seconds = (x.expand(*shape, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (x1, x2))
        # Rows with gradients stay apart: as one argument the derivative in both would go to the first alone
        moving = torch.is_grad_enabled() and (x1.requires_grad or x2.requires_grad)
        same = not moving and x1.shape == x2.shape and torch.equal(x1, x2)
        values = partial(_values, self.net, self.signs, self.kernel, self.read, diag)
        pairs = zip(firsts, seconds, strict=True)
        found = [_Matrix.apply(partial(values, same), x, y, *sizes) for x, y in pairs]
        return torch.stack(found).reshape(*shape, *found[0].shape) if shape else found[0]


def _values(net, signs, kernel, read, diag, same, x, y, *sizes) -> Float[Array, " n *m"]:
    """The kernel of arrays, differentiable in them and in the sizes of the hyperparameters."""
    values = {
        name: np.asarray(sign, size.dtype) * size for (name, sign), size in zip(signs.items(), sizes, strict=True)
    }
    net = replaced(net, values)
    read = read or (lambda rows: rows)
    if diag:
        return jax.vmap(lambda a, b: net.kernel_fn(read(a[None]), None if same else read(b[None]), kernel)[0, 0])(x, y)
    return net.kernel_fn(read(x), None if same else read(y), kernel)


class _Matrix(torch.autograd.Function):
    """A function of JAX arrays as one of tensors."""

    @staticmethod
    def forward(ctx: Any, function: Callable, *tensors: Any) -> Any:
        arrays = [_to_jax(tensor) for tensor in tensors]
        if any(ctx.needs_input_grad):
            value, ctx.pullback = eqx.filter_jit(jax.vjp)(function, *arrays)
        else:
            value = eqx.filter_jit(function)(*arrays)
        return _to_torch(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        return None, *(_to_torch(slope) for slope in ctx.pullback(_to_jax(gradient)))


def _to_jax(tensor: Any) -> Array:
    array = jnp.from_dlpack(tensor.detach().contiguous())
    wanted = jax.dtypes.canonicalize_dtype(array.dtype)
    if str(tensor.dtype) != f"torch.{wanted}":
        raise TypeError(
            f"NetworkKernel: rows in {tensor.dtype} are not for JAX as it is set. Switch double precision on "
            '(jax.config.update("jax_enable_x64", True)), or pass rows in float32.'
        )
    return array


def _to_torch(array: Array) -> Any:
    return torch.from_dlpack(array).clone()  # JAX's memory is read-only, and belongs to JAX
