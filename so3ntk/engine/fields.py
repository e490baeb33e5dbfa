r"""Kernels before pooling: functions of the relative motion of two signals.

A network that ends in features on the group has the kernel K_r(f, f') = K_{g, r^-1 g}(f, f'), the same for all g. Its
mean over r is the pooled kernel, and :math:`K_r(f, \rho(s) f') = K_{rs}(f, f')`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from so3ntk.engine.evaluation import programs
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.plan import read_batches
from so3ntk.engine.quadrature import Quadrature
from so3ntk.engine.scaling import balance, rescaled_in_jax
from so3ntk.engine.space import space_of


class Fields(NamedTuple):
    """Kernels on sampled motions; a name not asked for is None. All in the dtype of the signals.

    nngp, ntk: (N1, N2, motions). motions: orthogonal matrices r, (motions, 3, 3); weights: of the quadrature, (motions,),
    so that ``nngp @ weights`` is the pooled kernel. With local filters on the sphere nngp and ntk have one more axis, the
    positions x (unit vectors, (positions, 3)): K_r(x) is the kernel of f at x and f' at r^-1 x.
    A geometry that lists its motions itself (images) has axes of its own in place of ``motions``, which its ``Lift``
    states; motions and weights are then None, and the pooled kernel is the mean over these axes.
    """

    nngp: Float[Array, "n m ..."] | None
    ntk: Float[Array, "n m ..."] | None
    motions: Float[Array, "r 3 3"] | None
    weights: Float[Array, " r"] | None
    positions: Float[Array, "x 3"] | None = None


def field_kernels(
    layers: tuple[Layer, ...], quadrature: Quadrature | None, rtol: float, x1: Any, x2: Any, names: tuple[str, ...]
) -> Fields:
    """The kernels named, of all pairs of two batches (x2 None: of x1 with itself), at all motions.

    On the sphere the grid is the one given or that of the rule, for an ``AdaptiveGrid`` its base. Holds all numbers of
    the N1 N2 fields.
    """
    space = space_of(layers)
    f, g, dtype = read_batches(layers, x1, x1 if x2 is None else x2)
    f, g, scaling = balance(layers, f, g)
    sampling = space.sampling(x1, quadrature, rtol)
    values = programs.field_kernels(space.evaluation(sampling, x1, f, dtype), f, g, names)
    if scaling is not None:
        values = tuple(rescaled_in_jax(kernel, scaling) for kernel in values)
    found = dict(zip(names, values, strict=True))
    return Fields(found.get("nngp"), found.get("ntk"), *space.sampled(sampling, dtype))
