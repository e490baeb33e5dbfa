"""Networks: a sequence of layers and its kernel function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from so3ntk.basics.arrays import on_device
from so3ntk.engine.demand import ends_in_field, homogeneity_of, polynomial_degree_of
from so3ntk.engine.evaluation.evaluation import run_layers
from so3ntk.engine.evaluation.tiles import host_kernels
from so3ntk.engine.evaluation.traced import traced_kernels
from so3ntk.engine.features import apply_layers, draw
from so3ntk.engine.fields import field_kernels
from so3ntk.engine.finite import apply_params, init_params
from so3ntk.engine.gaussian import check_gaussian
from so3ntk.engine.layers.base import Layer, flatten, is_traced
from so3ntk.engine.layers.combinators import Composite, FanOut
from so3ntk.engine.layers.reduction import Reduction
from so3ntk.engine.layers.source import Source
from so3ntk.engine.plan import make_plan, split_at_reduction
from so3ntk.engine.quadrature import Quadrature
from so3ntk.engine.space import Space, space_of


class Kernels(NamedTuple):
    """Both kernels of a call with ``get=("nngp", "ntk")``; a name not asked for is None."""

    nngp: Any
    ntk: Any


class Network(Composite):
    """A sequence of layers with its kernel function; made by ``serial``.

    Unpacks as a stax triple, ``init_fn, apply_fn, kernel_fn = net``. Layers are pytrees of differentiable
    hyperparameters; ``quadrature`` and ``rtol`` are static. A network without a first layer that reads signals is a
    block: it can stand inside ``serial`` and ``parallel``.
    """

    quadrature: Quadrature | None = eqx.field(static=True, default=None)
    rtol: float = eqx.field(static=True, default=1e-4)

    def __iter__(self) -> Iterator[Callable]:
        yield self.init_fn
        yield self.apply_fn
        yield self.kernel_fn

    def __call__(self, state: Any) -> Any:
        """The state after all layers: a network inside a network."""
        return run_layers(self.layers, state)

    @property
    def homogeneity(self) -> float | None:
        """The product of the layers' exponents, or None."""
        return homogeneity_of(self.layers)

    @property
    def polynomial_degree(self) -> int | None:
        """The product of the layers' degrees, or None."""
        return polynomial_degree_of(self.layers)

    @overload
    def kernel_fn(self, x1: Any, x2: Any, get: Literal["nngp", "ntk"]) -> Array: ...
    @overload
    def kernel_fn(self, x1: Any, x2: Any = None, *, get: Literal["nngp", "ntk"]) -> Array: ...
    @overload
    def kernel_fn(self, x1: Any, x2: Any = None, get: tuple[str, ...] | list[str] = ("nngp", "ntk")) -> Kernels: ...
    @overload
    def kernel_fn(self, x1: Any, x2: Any = None, get: str | Sequence[str] = ("nngp", "ntk")) -> Any: ...

    def kernel_fn(self, x1: Any, x2: Any = None, get: str | Sequence[str] = ("nngp", "ntk")) -> Any:
        """The kernels of all pairs of two batches (x2 None: of x1 with itself).

        get: "nngp" or "ntk" for one array (N1, N2); a tuple of them for ``Kernels`` with fields nngp and ntk. A network
        that ends before pooling returns ``Fields`` (which its type does not say): its kernels at sampled motions, and these.
        The dtype is that of the signals. Works under jit, vmap and grad, in the signals and in the hyperparameters
        (``equinox.filter_jit``, or ``jax.jit`` of a function that closes over the network); for matrices
        too large for the device's memory, or progress, use ``so3ntk.gram``.
        Raises ValueError for signals that do not fit each other or the network.
        """
        names = check_get(get)
        if ends_in_field(self.layers) and not any(isinstance(layer, Reduction) for layer in flatten(self.layers)):
            return field_kernels(self.layers, self.quadrature, self.rtol, x1, x2, names)
        plan = make_plan(self.layers, self.quadrature, self.rtol, x1, x2)
        if is_traced((plan.layers, plan.f, plan.g, jnp.zeros(()))):  # zeros: a caller is traced, if not our signals
            arrays = traced_kernels(plan, names)
        else:
            plan.space.warn_if_coarse(self, x1)
            arrays = host_kernels(plan, names)
        values = {name: on_device(array) for name, array in zip(names, arrays, strict=True)}
        return values[get] if isinstance(get, str) else Kernels(values.get("nngp"), values.get("ntk"))

    def init_fn(self, key: Array, input_shape: tuple[int, ...], dtype: Any = None) -> tuple[tuple[int, ...], Any]:
        """The output shape of the finite network and its random parameters; see ``finite.init_params``."""
        return init_params(self, key, input_shape, dtype)

    def apply_fn(self, params: Any, x: Any, **_: Any) -> Array:
        """The outputs (N, C) of the finite network; see ``finite.apply_params``. Other keywords are stax's, ignored."""
        return apply_params(self, params, x)

    def init(self, key: Array, features: Any) -> tuple:
        """The parameters of a block inside a network."""
        return draw(self.layers, key, features)[0]

    def apply(self, params: Any, features: Any) -> Any:
        """The features after a block inside a network."""
        return apply_layers(self.layers, params, features)

    def calibrate(self, x: Any, signals: int = 12) -> Network:
        """This network with the coarsest grid that reaches ``rtol`` on the signals x; see ``so3ntk.sphere.calibration``."""
        return dataclasses.replace(self, quadrature=self.space.calibrated(self, x, signals))

    def quadrature_error(self, x1: Any, x2: Any = None, get: str = "ntk", signals: int = 12) -> float:
        """The largest error of the grid on such pairs, by refinement; see ``so3ntk.sphere.calibration``."""
        check_kernel_name(get, "quadrature_error", "get")
        return self.space.quadrature_error(self, x1, x2, get, signals)

    @property
    def space(self) -> Space:
        """The group and the signals of the layers before a sum over parts."""
        return space_of(split_at_reduction(self.layers)[0])


def serial(*layers: Layer, quadrature: Quadrature | None = None, rtol: float = 1e-4) -> Network:
    """A network of layers in sequence.

    quadrature: an explicit ``ProductGrid`` or ``ExplicitGrid`` of rotations, or None: chosen from the signals'
    bandlimit, the layers and ``rtol``, never from the batch. rtol: the quadrature error aimed at, relative to
    sqrt(K(x, x) K(x', x')). Raises TypeError and ValueError for what is not a layer or out of order.
    """
    if not layers:
        raise ValueError("serial: expected at least one layer.")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(
                f"serial: expected layers such as Lift() or Relu(), got {layer!r}. "
                "If it is a class, call it: Relu(), not Relu."
            )
    if isinstance(rtol, bool) or not isinstance(rtol, int | float) or not 0 < rtol < 1:
        raise ValueError(f"serial: expected rtol between 0 and 1, got {rtol!r}.")
    unrolled: list[Layer] = []
    for layer in layers:  # a plain block inside a network is the same network written out
        unrolled.extend(layer.layers if isinstance(layer, Network) else [layer])
    inside = tuple(flatten(unrolled))
    late = [type(layer).__name__ for layer in inside[1:] if isinstance(layer, Source)]
    if late and not isinstance(unrolled[0], FanOut):
        raise ValueError(f"serial: {late[0]} reads signals, so it must be the first layer (or first in its branch).")
    if sum(isinstance(layer, Reduction) for layer in inside) > 1:
        raise ValueError("serial: a network sums over parts once; found more than one such layer.")
    domains = {layer.domain: type(layer) for layer in inside if layer.domain is not None}
    if len(domains) > 1:
        words = " and ".join(f"{found.__module__.split('.')[0]}.{found.__name__} for {domain}"
                             for domain, found in domains.items())  # fmt: skip
        raise ValueError(f"serial: a network has one kind of signals, got layers of two: {words}.")
    check_gaussian(unrolled)
    net = Network(tuple(unrolled), quadrature, rtol)
    net.space.check_quadrature(quadrature)
    return net


def check_get(get: Any) -> tuple[str, ...]:
    """The names asked for, each once. ValueError for anything but "nngp" and "ntk"."""
    names = (get,) if isinstance(get, str) else tuple(dict.fromkeys(get)) if isinstance(get, Sequence) else ()
    if not names or any(name not in ("nngp", "ntk") for name in names):
        raise ValueError(f'get: expected "nngp", "ntk" or a tuple of them, got {get!r}.')
    return names


def check_kernel_name(name: Any, where: str, argument: str = "kernel") -> None:
    """ValueError for anything but one name, "ntk" or "nngp"."""
    if name not in ("ntk", "nngp"):
        raise ValueError(f'{where}: expected {argument} to be "ntk" or "nngp", got {name!r}.')
