r"""Networks of this library inside neural-tangents, and their kernels as its kernel functions.

    import so3ntk, planar
    from neural_tangents import stax
    from so3ntk.interop import neural_tangents as interop

    net = so3ntk.serial(planar.Lift((3, 3), width=64), so3ntk.Relu(), planar.GroupConv((3, 3), width=64),
                        so3ntk.Relu(), so3ntk.GroupPool())
    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(16), interop.as_layer(net), stax.Dense(64), stax.Relu(),
                                               stax.Dense(1))

``as_layer`` makes one triple of all our layers from the lifting to the pooling; ``serial`` takes theirs and ours mixed.

One triple, because an ``nt.Kernel`` holds the covariances of two inputs at pairs of positions, |G| x |G| numbers of a
pair for features on a group, where our layers need one for each relative motion (on SO(3) the root of that number);
and because its nonlinearities read variances from ``cov1`` and ``cov2``, which after pooling are means over the
motions of an input with itself that relative motions of the pair do not hold. The triple reads the ``nt.Kernel`` of the
layers before it, covariances between all pixels or coefficients, and returns one that the layers after it read.

Before it may stand what leaves the axes (N, H, W, C) of images or (N, L^2, C) of coefficients in place: layers that
act on channels (``stax.Dense``, ``stax.Identity``, on images ``stax.Relu`` and other nonlinearities), and on images
convolutions, which in general break the symmetry under rotations; so does a bias added to all coefficients. Kernels
are those of such networks, symmetric or not. Refused: masks, ``diagonal_spatial=True``, other batch or channel axes,
``channel_weights``, sums over atoms. After it stands whatever neural-tangents allows on vectors.

neural-tangents passes arrays: signals on the sphere are ``x.coefficients`` of a ``SphereSignal``, (N, L^2, C). Inside
``stax.serial`` every layer acts on whole fields (on the finer grid of an adaptive quadrature, without the collapse of
towers), so a network that is ours alone is faster by ``kernel_fn(net)``. For large batches use ``nt.batch``.
"""

from __future__ import annotations

import importlib
import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import index
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import planar.covariances  # noqa: F401 - registers how images are read
import so3ntk.interop.sphere  # noqa: F401 - and signals on the sphere
from so3ntk.engine import network
from so3ntk.engine.demand import ends_in_field, lifts_of, pool_position, width_after
from so3ntk.engine.evaluation.evaluation import Evaluation
from so3ntk.engine.gaussian import stays_gaussian
from so3ntk.engine.layers.base import Layer, flatten
from so3ntk.engine.layers.reduction import Reduction
from so3ntk.engine.layers.source import Source
from so3ntk.engine.network import Network
from so3ntk.engine.plan import make_plan
from so3ntk.engine.scaling import Scaling, rescaled_in_jax
from so3ntk.interop.covariances import as_signals, evaluation_of, output_kernels
from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.quadrature import SphereQuadrature

try:
    # By name, and untyped: where it is not installed a type checker takes this file for it.
    nt: Any = importlib.import_module("neural_tangents")
    stax: Any = importlib.import_module("neural_tangents.stax")
except Exception as error:  # on a newer jax its import ends in an AttributeError
    raise ImportError(
        f"so3ntk.interop.neural_tangents: neural-tangents cannot be imported with jax {jax.__version__} "
        f"({type(error).__name__}: {error}). Its last release, 0.6.5, works with jax 0.5.0 to 0.5.3, and not with later "
        "ones. Install both beside so3ntk, in an environment of their own: pip install 'neural-tangents==0.6.5' 'jax==0.5.3' "
        "'jaxlib==0.5.3'."
    ) from error


def as_layer(net: Network | Layer) -> tuple[Callable, Callable, Callable]:
    """A network that ends after pooling, or a block of layers on vectors, as (init_fn, apply_fn, kernel_fn) of stax.

    kernel_fn maps an ``nt.Kernel`` to that of the network's outputs (N, C): nngp, ntk (N1, N2), and in cov1 and cov2
    the outputs' variances. Every layer needs a width, as in neural-tangents. Raises ValueError for a network that ends
    before pooling, has no widths, or applies a nonlinearity to features that are not Gaussian; TypeError for no layer.
    """
    net = _network("as_layer", net)
    missing = [type(layer).__name__ for layer in flatten(net.layers) if getattr(layer, "width", 0) is None]
    if missing:
        raise ValueError(
            f"as_layer: {missing[0]} has no width. neural-tangents asks every layer for its number of channels: give "
            "width= (the kernels do not depend on it, unless the parametrization is 'standard')."
        )

    def init_fn(rng: Array, input_shape: tuple[int, ...]) -> tuple:
        return net.init_fn(rng, tuple(index(n) for n in input_shape))  # convolutions of stax give NumPy's integers

    def apply_fn(params: Any, inputs: Any, **kwargs: Any) -> Array:
        return net.apply_fn(params, _signals(net, inputs))

    # Input.NO: the field at one motion takes its values between different pixels or coefficients.
    @stax.requires(batch_axis=0, channel_axis=-1, diagonal_spatial=stax.Diagonal(input=stax.Bool.NO))
    def layer_kernel_fn(k: Any, **kwargs: Any) -> Any:
        return _apply_to_kernel(net, k)

    def layer() -> tuple[Callable, Callable, Callable]:
        return init_fn, apply_fn, layer_kernel_fn

    return stax.layer(layer)()


def serial(*layers: Any, quadrature: SphereQuadrature | None = None, rtol: float = 1e-4) -> tuple:
    """``stax.serial`` of their triples and our layers: neighbours of ours become one triple by ``as_layer``.

    quadrature, rtol: as for ``so3ntk.serial``. Raises TypeError for what is neither.
    """
    triples = []
    for ours, group in groupby(layers, lambda layer: isinstance(layer, Layer)):
        found = list(group)
        wrong = None if ours else next((x for x in found if not isinstance(x, tuple) or len(x) != 3), None)
        if wrong is not None:
            raise TypeError(f"serial: expected layers of so3ntk or triples of neural_tangents.stax, got {wrong!r}.")
        triples += [as_layer(network.serial(*found, quadrature=quadrature, rtol=rtol))] if ours else found
    return stax.serial(*triples)


def kernel_fn(net: Network | Layer) -> Callable:
    """The network's kernels, by our own engine, as a kernel function of neural-tangents: kernel_fn(x1, x2, get).

    x1, x2: arrays (N, L^2, C) of coefficients or (N, H, W, C) of images. get: a name for one array, "nngp", "ntk" or
    another field of ``nt.Kernel``; a tuple of names for a namedtuple; None for an ``nt.Kernel``, whose shape1 and shape2
    have -1 channels where the last layer has no width. Works in ``nt.batch`` and ``nt.predict``.
    """
    net = _network("kernel_fn", net)

    def analytic_kernel_fn(x1: Any, x2: Any = None, get: str | Sequence[str] | None = None) -> Any:
        first, second = (None if x is None else _signals(net, x) for x in (x1, x2))
        if get is None:
            return _whole_kernel(net, first, second)
        names = (get,) if isinstance(get, str) else tuple(get)
        simple = set(names) <= {"nngp", "ntk"}
        kernels = net.kernel_fn(first, second, names) if simple else _whole_kernel(net, first, second)
        unknown = [name for name in names if not hasattr(kernels, name)]
        if unknown:
            raise ValueError(
                f'kernel_fn: get: expected "nngp", "ntk" or other fields of nt.Kernel, got {unknown[0]!r}.'
            )
        found = [getattr(kernels, name) for name in names]
        return found[0] if isinstance(get, str) else _kernel_tuple(names)(*found)

    return analytic_kernel_fn


@lru_cache
def _kernel_tuple(names: tuple[str, ...]) -> type:
    """One class for the same names, so that results of two calls are pytrees of one structure."""
    return namedtuple("AnalyticKernel", names)


def _network(where: str, net: Any) -> Network:
    """A network with a first layer and one number per pair; a block gets ``Flatten``, which reads vectors."""
    if not isinstance(net, Layer):
        raise TypeError(f"{where}: expected a network of so3ntk.serial or a layer, got {type(net).__name__}.")
    net = net if isinstance(net, Network) else network.serial(net)
    inside = tuple(flatten(net.layers))
    if any(isinstance(layer, Reduction) for layer in inside):
        raise ValueError(f"{where}: sums over the parts of an input are not for arrays. End the network before them.")
    if not any(isinstance(layer, Source) for layer in inside):
        net = Network(
            (Flatten(), *net.layers), net.quadrature, net.rtol
        )  # whether its inputs are Gaussian their kernel says
    if ends_in_field(net.layers):
        raise ValueError(
            f"{where}: the network ends in features on the group, of which neural-tangents would need covariances of all "
            "pairs of elements. Add GroupPool() after the last group layer; neural-tangents' layers follow it."
        )
    if pool_position(net.layers) is None and not all(lift.pointwise for lift in lifts_of(net.layers)):
        raise ValueError(
            f"{where}: branches with local filters need one GroupPool() after FanInSum(), outside of them."
        )
    return net


def _signals(net: Network, x: Any) -> Any:
    source = next(layer for layer in flatten(net.layers) if isinstance(layer, Source))
    return as_signals(source, x)


def _apply_to_kernel(net: Network, k: Any) -> Any:
    """The ``nt.Kernel`` of the network's outputs from that of its inputs."""
    _check_kernel(k)
    k = k.reverse() if k.is_reversed else k
    signals = _signals(net, jnp.zeros((1, *k.shape1[1:]), k.nngp.dtype))
    ntk = jnp.zeros_like(k.nngp) if k.ntk is None or k.ntk.ndim == 0 else k.ntk
    cov2 = None if k.cov2 is None else _by_position(k.cov2, 1)
    covariances = _by_position(k.nngp, 2), _by_position(ntk, 2), _by_position(k.cov1, 1), cov2
    gaussian = stays_gaussian(net.layers, k.is_gaussian)
    outputs = output_kernels(evaluation_of(net, signals), *covariances, shape=tuple(k.shape1[1:]))
    return k.replace(
        nngp=outputs[0],
        ntk=None if k.ntk is None else outputs[1],
        cov1=outputs[2],
        cov2=outputs[3],
        is_gaussian=gaussian,
        is_reversed=False,
        is_input=False,
        batch_axis=0,
        channel_axis=1,
    )


def _check_kernel(k: Any) -> None:
    if not isinstance(k, nt.Kernel):
        raise TypeError(
            f"as_layer: expected one nt.Kernel from the layers before, got {type(k).__name__}. After branches join them "
            "first, as with stax.FanInSum()."
        )
    if k.mask1 is not None or k.mask2 is not None:
        raise ValueError("as_layer: masked inputs are not implemented. Leave mask_constant away.")
    if not k.diagonal_batch:
        raise ValueError("as_layer: expected variances of each input alone, diagonal_batch=True, got False.")
    if k.shape1[1:] != k.shape2[1:]:
        raise ValueError(f"as_layer: the two batches do not fit each other: shapes {k.shape1} and {k.shape2}.")


def _by_position(covariance: Array, batch: int) -> Float[Array, " ..."]:
    """From axes (..., h, h', w, w') to (..., h w, h' w'); without positions as it is."""
    if covariance.ndim == batch:
        return covariance
    lead, axes = tuple(range(batch)), range(batch, covariance.ndim)
    ordered = covariance.transpose(*lead, *axes[::2], *axes[1::2])
    positions = math.prod(ordered.shape[batch : batch + len(axes) // 2])
    return ordered.reshape(*ordered.shape[:batch], positions, positions)


def _whole_kernel(net: Network, first: Any, second: Any) -> Any:
    """Both kernels and all variances."""
    kernels = net.kernel_fn(first, second)
    width = width_after(net.layers) or -1
    rows, columns = kernels.nngp.shape
    return nt.Kernel(
        nngp=kernels.nngp,
        ntk=kernels.ntk,
        cov1=_variances(net, first),
        cov2=None if second is None else _variances(net, second),
        x1_is_x2=jnp.array(second is None),
        is_gaussian=stays_gaussian(net.layers, False),
        is_reversed=False,
        is_input=False,
        diagonal_batch=True,
        diagonal_spatial=False,
        shape1=(rows, width),
        shape2=(columns, width),
        batch_axis=0,
        channel_axis=1,
    )


def _variances(net: Network, x: Any) -> Float[Array, " n"]:
    """The NNGP kernel of each input with itself; traceable, which ``kernel_diagonal`` is not."""
    plan = make_plan(net.layers, net.quadrature, net.rtol, x, None)
    kernels = _own_kernels(plan.evaluation, plan.f)
    if plan.scaling is None:
        return kernels
    own = Scaling(plan.scaling.rows, np.zeros(1, int), 2 * plan.scaling.degree)
    return rescaled_in_jax(kernels[:, None], own)[:, 0]


@eqx.filter_jit
def _own_kernels(evaluation: Evaluation, signals: Any) -> Float[Array, " n"]:
    return jax.lax.map(lambda f: evaluation.pair(f, f, ("nngp",)).kernels[0], signals)
