"""Lifting: from signals on the sphere to features on SO(3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arrays import native
from so3ntk.engine.features import Inputs, Linear
from so3ntk.engine.filters import Filter, within
from so3ntk.engine.layers.base import Layer, Scalar
from so3ntk.engine.layers.source import Lifting
from so3ntk.engine.parametrization import weights_of
from so3ntk.engine.state import Pair, State
from so3ntk.sphere.features import RotationFeatures, lift, synthesise
from so3ntk.sphere.global_support import SphereGeometry
from so3ntk.sphere.layers.support import check_support
from so3ntk.sphere.local_filters import lifting_root, mix_degrees
from so3ntk.sphere.local_support import LocalSphereGeometry, Turn
from so3ntk.sphere.o3 import OrthogonalGeometry, mirrored
from so3ntk.sphere.rotations import check_bandlimit
from so3ntk.sphere.signals import SphereSignal
from so3ntk.sphere.space import Sphere
from so3ntk.sphere.transforms.grid import Grid


class Lift(Lifting):
    r"""The first group convolution, from the sphere to SO(3), with white-noise filters of global support.

    .. math:: K_r = W^2 \frac1C \frac1{4\pi} \sum_c w_c \sum_{l<L} v_l \sum_{mn} a^c_{lm} D^l_{mn}(r) b^c_{ln} + b^2,
              \qquad \Theta_r = K_r

    for signals with coefficients a and b. All arguments are keywords:

    width: channels of the finite network, for ``init_fn`` and the standard parametrisation only.
    support: half-angle t of the filters' cap in radians; None or pi for the whole sphere. With t < pi fields depend on
    the position, K_r(x) = W^2 A_t[mean_c w_c f_c(x) f'_c(r^-1 x)] + b^2, A_t the average over the cap about x; these
    networks are evaluated rotation by rotation on a grid of positions (``LocalGrid``).
    bandlimit: filters keep degrees l < bandlimit; None keeps all degrees of the signal.
    variances: filter variance v_l per degree (differentiable), at least as many as degrees; None for white noise.
    channel_weights: w_c, one non-negative number per channel (differentiable); None for ones.
    group: "SO3", or "O3": the mirror image of a signal, coefficients times (-1)^l, joins its rotations, so that a
    molecule and its mirror image have the same kernel.
    W_std, b_std: standard deviations of weights and biases (differentiable); b_std None means no bias.
    parametrization: "ntk" or "standard".

    Raises ValueError for arguments out of range, and for a support together with bandlimit or variances.
    Source: Misof, Kessel, Gerken, Equivariant Neural Tangent Kernels (2025), in the relative-motion form of the docs.
    """

    width: int | None = eqx.field(static=True)
    support: float | None = eqx.field(static=True)
    bandlimit: int | None = eqx.field(static=True)
    variances: Sequence[float] | Float[Array | np.ndarray, " l"] | None
    channel_weights: Sequence[float] | Float[Array | np.ndarray, " c"] | None
    group: str = eqx.field(static=True)
    W_std: Scalar
    b_std: Scalar | None
    parametrization: str = eqx.field(static=True)

    @property
    def domain(self) -> str:
        """The sphere."""
        return "the sphere"

    def __init__(
        self,
        *,
        width: int | None = None,
        support: float | None = None,
        bandlimit: int | None = None,
        variances: Any = None,
        channel_weights: Any = None,
        group: str = "SO3",
        W_std: Scalar = 1.0,
        b_std: Scalar | None = None,
        parametrization: str = "ntk",
    ):
        if group not in ("SO3", "O3"):
            raise ValueError(f"Lift: expected group 'SO3' or 'O3' (with reflections), got {group!r}.")
        self.group = group
        self.support = check_support("Lift", support, bandlimit, variances)
        self.bandlimit = None if bandlimit is None else check_bandlimit(bandlimit, "Lift")
        self.variances, self.channel_weights = native(variances), native(channel_weights)
        checked = weights_of("Lift", width, W_std, b_std, parametrization)
        self.width, self.W_std, self.b_std, self.parametrization = checked

    def kept_bandlimit(self, signal_bandlimit: int) -> int:
        """The bandlimit after the filter."""
        return signal_bandlimit if self.bandlimit is None else min(self.bandlimit, signal_bandlimit)

    def arrays(self, x: SphereSignal) -> Float[Array, "n p c"]:
        """The coefficients of a batch; checks channel weights and variances against them."""
        if not isinstance(x, SphereSignal):
            raise TypeError(
                f"Lift: expected a SphereSignal, got {type(x).__name__}. Make one with SphereSignal.from_samples or "
                "from_coefficients; for molecular Environments end the network with AtomSum()."
            )
        kept = self.kept_bandlimit(x.bandlimit)
        if self.variances is not None and len(self.variances) < kept:
            raise ValueError(
                f"Lift: expected a variance for each of the {kept} degrees, got {len(self.variances)}. "
                f"Give more variances, or bandlimit={len(self.variances)}."
            )
        if self.channel_weights is not None and len(self.channel_weights) != x.channels:
            raise ValueError(
                f"Lift: expected one of channel_weights for each of the signals' {x.channels} channels, got "
                f"{len(self.channel_weights)}."
            )
        return x.coefficients

    def space(self, layers: tuple[Layer, ...]) -> Sphere:
        """The sphere."""
        return Sphere(layers)

    @property
    def filter(self) -> Filter:
        """A cap, or the whole sphere."""
        return within(self.support)

    def begin(self, pair: Pair) -> State:
        """The state on all rotations; in networks with caps that of two batches at one, ``pair.grid``."""
        if not isinstance(pair.grid, Turn):
            return super().begin(pair)
        if self.bandlimit is not None or self.variances is not None:
            raise NotImplementedError(
                "Lift: bandlimit and variances are not implemented beside a branch with local support. Limit the signals "
                "by x.with_bandlimit, or give all branches support=None."
            )
        turn = pair.grid
        geometry = LocalSphereGeometry(turn.positions, turn.weight, self.channel_weights, turn)
        f, g = pair.f, turn.rotate(pair.g)
        correlation = geometry.correlate(f, g)
        q1, q2 = geometry.variance(f)[..., :, None], geometry.variance(g)[..., None, :]
        # Not state.filter: XLA would fold the average of a tangent kernel that is zero at compile time, for seconds
        averaged, q1, q2 = (geometry.average(field, self.filter) for field in (correlation, q1, q2))
        state = State(geometry, averaged, jnp.zeros_like(averaged), q1, q2)
        return state.affine(self.scales(f), self.width)

    def geometry(self, grid: Grid | None) -> SphereGeometry | OrthogonalGeometry:
        """Rotations on the given grid, and with the inversion for O(3)."""
        proper = SphereGeometry(grid, self.channel_weights, self.variances, self.bandlimit)
        return OrthogonalGeometry(proper) if self.group == "O3" else proper

    def channels(self, f: Float[Array | jax.ShapeDtypeStruct, "*n p c"]) -> int:
        """The last axis."""
        return f.shape[-1]

    def init(self, key: Array, features: Inputs) -> Any:
        """Filters (2l + 1, C, width) for each degree, and a bias (width,)."""
        _, coefficients, channels = features.arrays.shape
        degrees = range(self.kept_bandlimit(math.isqrt(coefficients)))
        shapes = tuple((2 * degree + 1, channels, self.width) for degree in degrees)
        return Linear.of(self, channels).init("Lift", key, shapes, self.width)

    def apply(self, params: Any, features: Inputs) -> RotationFeatures:
        """The lifted features, on the grid of the inputs."""
        signals = features.arrays
        if self.channel_weights is not None:
            signals = signals * jnp.sqrt(jnp.asarray(self.channel_weights, signals.dtype))
        filters, bias = Linear.of(self, signals.shape[2]).scaled(params)
        if self.support is not None:
            filters = mix_degrees(filters, lifting_root(len(filters), self.support))
        spectrum = jnp.ones(len(filters)) if self.variances is None else jnp.asarray(self.variances)[: len(filters)]
        cosets = (signals, mirrored(signals)) if self.group == "O3" else (signals,)
        blocks = [lift(signal, filters, spectrum.astype(signals.dtype)) for signal in cosets]
        values = jnp.concatenate([synthesise(features.grid.grid, block) for block in blocks], axis=1)
        return RotationFeatures(values + bias, features.grid)
