"""Group convolution: its kernels for any group whose geometry knows the filters, its finite networks on SO(3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arrays import native
from so3ntk.engine.features import Linear
from so3ntk.engine.filters import Filter, Spectrum, within
from so3ntk.engine.geometry import Multiplet, Point
from so3ntk.engine.layers.affine import Affine
from so3ntk.engine.layers.base import Scalar
from so3ntk.engine.parametrization import weights_of
from so3ntk.engine.state import State
from so3ntk.sphere.features import RotationFeatures
from so3ntk.sphere.layers.support import check_support
from so3ntk.sphere.local_filters import convolution_root, improper_root, mix_degrees
from so3ntk.sphere.rotations import check_bandlimit


class GroupConv(Affine):
    r"""Convolution of features on a group, SO(3) or another, with random filters.

    .. math:: K \leftarrow W^2 A K + b^2, \qquad \Theta \leftarrow K + W^2 A \Theta, \qquad
              (A K)^l = v_l K^l\ (l < L), \quad 0\ \text{otherwise}

    White-noise filters (bandlimit and variances None) have A = 1: the layer does no transform at all. A finite
    bandlimit L is the projection onto l < L; ``variances`` multiply block l by the filter's variance v_l, and set
    the bandlimit to their number where none is given. With support t < pi, filters on the rotations that move the pole
    by at most t, A is the average over the cap of half-angle t at each position (the identity after a ``Lift`` of global
    support, whose features' kernel does not depend on the position). All arguments are keywords; see ``Lift`` for
    width, W_std, b_std and parametrization.

    Raises ValueError for arguments out of range, and for a support together with a bandlimit.
    """

    width: int | None = eqx.field(static=True)
    support: float | None = eqx.field(static=True)
    bandlimit: int | None = eqx.field(static=True)
    variances: Sequence[float] | Float[Array | np.ndarray, " l"] | None
    W_std: Scalar
    b_std: Scalar | None
    parametrization: str = eqx.field(static=True)

    def __init__(
        self,
        *,
        width: int | None = None,
        support: float | None = None,
        bandlimit: int | None = None,
        variances: Any = None,
        W_std: Scalar = 1.0,
        b_std: Scalar | None = None,
        parametrization: str = "ntk",
    ):
        self.support = check_support("GroupConv", support, bandlimit, variances)
        if variances is not None:
            if bandlimit is None:
                bandlimit = len(variances)
            elif len(variances) < bandlimit:
                raise ValueError(
                    f"GroupConv: expected a variance for each of the {bandlimit} degrees, got {len(variances)}."
                )
        self.bandlimit = None if bandlimit is None else check_bandlimit(bandlimit, "GroupConv")
        self.variances = native(variances)
        checked = weights_of("GroupConv", width, W_std, b_std, parametrization)
        self.width, self.W_std, self.b_std, self.parametrization = checked

    @property
    def filter(self) -> Filter:
        """What the filters see; what that means is the geometry's to say."""
        if self.bandlimit is None:
            return within(self.support)
        return Spectrum(np.ones(self.bandlimit) if self.variances is None else self.variances[: self.bandlimit])

    @property
    def pointwise(self) -> bool:
        """Whether the filters are white noise; a spectrum couples all motions."""
        return self.bandlimit is None

    def __call__(self, state: State) -> State:
        """The state after the convolution. ValueError where there is no group left: after pooling or Flatten."""
        if type(state.geometry) in (Point, Multiplet):
            raise ValueError(
                "GroupConv: the features are no longer functions on a group (they were pooled or flattened). "
                "Use Dense here, or move GroupConv before the pooling."
            )
        return state.filter(self.filter, self.scales("GroupConv", state.width), self.width)

    def init(self, key: Array, features: RotationFeatures) -> Any:
        """Filters (2l + 1, 2l + 1, C, width) for each coset of SO(3) and each degree, and a bias (width,)."""
        channels = _on_rotations(features).channels
        sides = [2 * degree + 1 for degree in range(self.bandlimit or features.on.bandlimit)]
        shapes = (tuple((side, side, channels, self.width) for side in sides),) * features.cosets
        return Linear.of(self, channels).init("GroupConv", key, shapes, self.width)

    def apply(self, params: Any, features: RotationFeatures) -> RotationFeatures:
        """The convolution; white-noise filters are cut at the bandlimit of the features' grid."""
        filters, bias = Linear.of(self, _on_rotations(features).channels).scaled(params)
        bandlimit = len(filters[0])
        if self.support is not None:
            roots = (convolution_root(bandlimit, self.support), improper_root(bandlimit, self.support))
            filters = tuple(mix_degrees(kappa, root) for kappa, root in zip(filters, roots, strict=False))
        spectrum = jnp.ones(bandlimit) if self.variances is None else jnp.asarray(self.variances)[:bandlimit]
        return features.convolve(filters, spectrum.astype(features.values.dtype), bias)


def _on_rotations(features: Any) -> RotationFeatures:
    if not isinstance(features, RotationFeatures):
        raise ValueError(
            f"GroupConv: expected features on SO(3), got {type(features).__name__}. After pooling use Dense; for images "
            "planar.GroupConv."
        )
    return features
