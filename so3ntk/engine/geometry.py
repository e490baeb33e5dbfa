r"""What the engine needs of a group G that acts on a space X, and no more.

The kernel of a group-convolutional network for a pair (f, f') is a *field* over the relative motion r in G and the
position x in X (DESIGN: K_r(x) = K_{g, r^-1 g} at x = g o):

    lifting            K_r(x) = average over the support at x of  mean over channels f(x) f'(r^-1 x)
    group convolution  the average over the support, at each motion separately
    nonlinearity       pointwise in r and x, with the variances of f at x and of f' at r^-1 x
    group pooling      the mean over all motions and positions
    irrep readout      int D(r) mean_x K_r(x) dr: a block for each irrep D of the group

A geometry owns the representation of its fields: any pytree, linear in its leaves. The engine touches a field only
through the methods below; their defaults serve fields that are arrays of samples. One geometry describes one pair
(f, f'); the engine maps it over batches with ``jax.vmap``, which also hoists whatever depends on one signal alone.

To add a group: subclass ``Geometry``, and write a ``Lift`` layer that makes it and the first state.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from so3ntk.engine.filters import Filter, Spectrum
from so3ntk.engine.irrep import Irrep

#: A kernel as a function of motions and positions, in whatever form its geometry keeps it.
Field = Any
#: One signal (without batch axis): a pytree whose meaning its geometry knows.
Signal = Any


class Geometry(eqx.Module):
    """Motions and positions, sampled. See the module's docstring for the meaning of each method."""

    @abstractmethod
    def correlate(self, f: Signal, g: Signal) -> Field:
        """The field mean_c f_c(x) g_c(r^-1 x) of one pair of signals."""

    @abstractmethod
    def variance(self, f: Signal) -> Float[Array, " ..."]:
        """mean_c f_c(x)^2 at each position; a scalar where fields do not depend on the position."""

    @abstractmethod
    def transport(self, variance: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """A function of the position carried along each motion, q(r^-1 x), in the shape of a field's samples."""

    @abstractmethod
    def mean(self, field: Field) -> Float[Array, ""]:
        """The mean over all motions and positions: the coefficient of the trivial irrep."""

    def overlapping(self, motions: Any) -> Any:
        """Of all motions, those at which the two signals have positions in common; elsewhere fields count for nothing."""
        return motions

    def project(self, field: Field, irrep: Irrep) -> Float[Array, "m m"]:
        """The block int D(r) mean_x K_r(x) dr of an irrep of the group, in the basis of ``rotations`` on the sphere."""
        raise ValueError(
            f"IrrepPool: {type(self).__name__} has no irreps of SO(3) to project on. IrrepPool ends the group layers of "
            "signals on the sphere, once; images have GroupPool()."
        )

    def mean_of(
        self, function: Callable, parameters: Any, f: Signal, g: Signal, irrep: Irrep | None = None
    ) -> tuple[Array, Array]:
        """The means (k,) of function(p, correlation of f and g) over motions and positions, and the largest correlation.

        With an irrep, its blocks (k, m, m) in place of the means. ``function`` acts on arrays of correlations pointwise; p
        runs over the leading axis, k, of the pytree ``parameters``. The default writes the field out; a geometry that can
        fuse the steps overrides it.
        """
        values = self.samples(self.correlate(f, g))
        read = self.mean if irrep is None else lambda field: self.project(field, irrep)
        return jax.lax.map(lambda p: read(function(p, values)), parameters), jnp.max(values)

    def moments(self, f: Signal, irrep: Irrep | None = None) -> tuple[Float[Array, " *k"], Float[Array, " *q"]]:
        """Features u and v of the sum of some signals (a leading axis), whose inner products with those of another are the means
        over motions of the correlation and, v, of its square, each summed over pairs of signals: (k,) and (q,).

        With an irrep, its components (m, k) and (m, q), whose inner products are its blocks.
        """
        raise NotImplementedError(f"{type(self).__name__} has no features of the correlation's moments.")

    def moments_pay(self, f: Signal, summed: bool, irrep: Irrep | None = None) -> bool:
        """Whether there are ``moments``, and their inner products cost less than pairs. summed: over parts of inputs."""
        return False

    def average_variance(self, variance: Float[Array, " ..."], filter: Filter) -> Float[Array, " ..."] | None:
        """The variance after the same average; None where it depends on more than variances (the self state's field)."""
        return None

    def after(self, filter: Filter) -> Geometry:
        """The geometry of the averaged field: itself, unless a filter leaves fewer positions."""
        return self

    def average(self, field: Field, filter: Filter) -> Field:
        """The average over what a filter sees, or in general its linear map, at each motion. Refuses what it does not know."""
        raise NotImplementedError(f"{type(self).__name__} has no filter of the kind {filter!r}.")

    def at_identity(self, field: Field) -> Float[Array, " ..."]:
        """The values at the identity motion, at each position; needed where ``average`` couples motions."""
        raise NotImplementedError(f"{type(self).__name__} cannot evaluate a field at the identity motion.")

    def samples(self, field: Field) -> Float[Array, " ..."]:
        """The field as an array of values at motions and positions."""
        return field

    def activate(
        self, nngp: Field, ntk: Field, q1: Array, q2: Array, duals: Callable, powers: Callable | None
    ) -> tuple[Field, Field]:
        """Both fields after a nonlinearity, pointwise, for variances q and q'; the tangent kernel of a self state is None.

        duals, powers: as for ``State.activate``; samples need no polynomial.
        """
        kernel, slope = duals(self.samples(nngp), q1, self.transport(q2))
        return kernel, None if ntk is None else slope * self.samples(ntk)

    def gather(self, fields: Float[Array, "motions ..."]) -> Float[Array, " ..."]:
        """The fields of all motions, one after another along the first axis, in the axes that users see."""
        return fields

    def add(self, a: Field, b: Field) -> Field:
        """The sum of two fields."""
        return a + b

    def scale(self, field: Field, factor: Any) -> Field:
        """The field times a number."""
        return field * factor

    def shift(self, field: Field, constant: Any) -> Field:
        """The field plus a constant."""
        return field + constant


class PositionFree(Geometry):
    """Fields and variances that do not depend on the position, as filters of global support leave them.

    Filters on a part of the space average what is the same everywhere: the identity. Spectra are refused.
    """

    def transport(self, variance: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """The identity: a number does not move."""
        return variance

    def average(self, field: Field, filter: Filter) -> Field:
        """The identity."""
        return super().average(field, filter) if isinstance(filter, Spectrum) else field

    def average_variance(self, variance: Float[Array, " ..."], filter: Filter) -> Float[Array, " ..."] | None:
        """The identity; after a spectrum it takes the self state's field."""
        return None if isinstance(filter, Spectrum) else variance


class Point(Geometry):
    """No motions at all: a field is one number. The state after pooling or ``Flatten``."""

    def correlate(self, f: Signal, g: Signal) -> Field:
        """The mean of the product of two coefficient vectors (f = g gives exactly the variance)."""
        product = (
            jnp.vdot(f, g, precision=jax.lax.Precision.HIGHEST) / f.size
        )  # which for many pairs is one matrix product
        # Exact at coincidence, where rounding would move the angle by the root of eps; derivatives are the product's.
        rounding = jnp.where(jnp.all(f == g), self.variance(f) - product, 0)
        return product + jax.lax.stop_gradient(rounding)

    def variance(self, f: Signal) -> Float[Array, ""]:
        """The mean square of a coefficient vector."""
        return jnp.mean(f * f)

    def transport(self, variance: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """The identity."""
        return variance

    def mean(self, field: Field) -> Float[Array, ""]:
        """Refused: there is nothing to pool."""
        raise ValueError(
            "GroupPool: the state has no motions or positions left to average over. A network pools once, after "
            "Lift; after Flatten or another pooling layer there is nothing to pool."
        )


class Multiplet(Point):
    """Components of a tensor: a field is a block. The state after ``IrrepPool``, on which only linear maps act."""

    irrep: Irrep = eqx.field(static=True)

    def samples(self, field: Field) -> Float[Array, " ..."]:
        """Refused: a nonlinearity of each component would depend on the axes."""
        raise ValueError(no_nonlinearity())

    def shift(self, field: Field, constant: Any) -> Field:
        """Refused, unless constants are of this irrep."""
        if not self.irrep.is_trivial:
            raise ValueError(no_bias(self.irrep))
        return field + constant


def no_nonlinearity() -> str:
    """The error of a nonlinearity after ``IrrepPool``, of kernels and of finite networks."""
    return (
        "a nonlinearity after IrrepPool would act on the components of vectors and tensors one by one, which depends on "
        "the axes. Put IrrepPool after the last nonlinearity; invariant features, from GroupPool, may have more of them."
    )


def no_bias(irrep: Irrep) -> str:
    """The error of a bias after ``IrrepPool``."""
    return (
        f"Dense: a bias after IrrepPool({irrep}) is a constant vector or tensor, which rotations would not turn. "
        "Leave b_std=None there."
    )


class Probe(PositionFree, Point):
    """Given values of a kernel, each as if it were a motion of its own: how the engine tabulates pointwise layers."""
