"""What a layer is: a map from the kernel state of one pair of inputs to the next state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer
from jaxtyping import Array, Float

from so3ntk.engine.state import State

#: A differentiable hyperparameter: stored as given, never cast, and no code branches on its value.
Scalar = float | Float[Array, ""]


class Layer(eqx.Module):
    """One layer of an infinitely wide network, as a map of kernel states (one pair of inputs; batches by vmap).

    The properties say what the layer couples, so that the network can choose how to evaluate it.
    """

    @abstractmethod
    def __call__(self, state: State) -> State:
        """The state after the layer."""

    def init(self, key: Array, features: Any) -> Any:
        """Random parameters of the finite network's layer for features of such shapes; none by default."""
        return ()

    def apply(self, params: Any, features: Any) -> Any:
        """The finite network's layer: features to features."""
        raise NotImplementedError(f"{type(self).__name__}: its finite network is not implemented; its kernels are.")

    def channels_after(self, channels: int) -> int:
        """The width of features after a layer that mixes no channels."""
        return channels

    @property
    def pointwise(self) -> bool:
        """Whether the output at one motion and position depends on the input at that motion and position alone."""
        return True

    @property
    def keeps_variances(self) -> bool:
        """Whether the variances after the layer follow from those before it, without the kernels of self states."""
        return self.pointwise

    @property
    def uses_variances(self) -> bool:
        """Whether the layer needs the variances of both inputs: true of nonlinearities."""
        return False

    @property
    def homogeneity(self) -> float | None:
        """p if scaling the kernel and both variances by s scales the layer's output by s^p, else None."""
        return 1.0

    @property
    def polynomial_degree(self) -> int | None:
        """k if kernels after the layer are polynomials of degree k in those before, at given variances, else None."""
        return None if self.uses_variances else 1

    @property
    def domain(self) -> str | None:
        """In words, what the layer's signals are on; None if it serves several. A network has one."""
        return None

    @property
    def smoothness(self) -> float:
        """k if the NTK after the layer behaves as (1 - c)^k near aligned inputs; infinity if it is analytic."""
        return float("inf")


def flatten(layers: Sequence[Layer]) -> Iterator[Layer]:
    """All elementary layers, in order, with blocks and branches opened."""
    for layer in layers:
        inner = getattr(layer, "layers", None)
        if inner is None:
            yield layer
        else:
            yield from flatten(inner)


def is_traced(tree: Any) -> bool:
    """Whether any array of the pytree is being traced by JAX."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
