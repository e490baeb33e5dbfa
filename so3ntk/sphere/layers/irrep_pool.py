"""The readout of vectors and tensors: projection on one irrep of SO(3) or O(3)."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.engine.features import HIGHEST, Features
from so3ntk.engine.geometry import Geometry, Multiplet
from so3ntk.engine.layers.readout import Readout
from so3ntk.sphere.irreps import Irrep, cartesian_from_real


class IrrepPool(Readout):
    r"""The l-th irrep of features on the group: equivariant outputs with 2l + 1 components.

    .. math:: K \leftarrow \int D^l(r)\, \mathrm{mean}_x K_r(x)\, dr, \qquad
              \text{finite width:}\quad \sqrt{2l+1} \int h(g)\, D^l_{mk}(g)\, dg

    with k joining the channels, over which kernels average. Kernels become blocks (N1, N2, 2l + 1, 2l + 1), and for
    every rotation s, K(rho(s) f, f') = D^l(s) K(f, f'), K(f, rho(s) f') = K(f, f') D^l(s)^T, K(f', f) = K(f, f')^T. l = 0 is
    ``GroupPool`` with blocks (1, 1).

    parity: p with D(-R) = p D(R), for ``Lift(group="O3")`` alone; None is that of harmonics, (-1)^l: polar vectors
    (dipoles) for l = 1, true tensors for l = 2. l = 1 with p = 1 gives axial vectors, l = 0 with p = -1 pseudo-scalars.
    basis: "real", in the order m = -l..l of real harmonics (l = 1: y, z, x); "cartesian" for l = 1, (x, y, z), and for
    l = 2, symmetric traceless tensors as their nine entries, t_ab at 3 a + b: blocks (9, 9) of rank 5, which
    ``reshape(N1, N2, 3, 3, 3, 3)`` makes K_ab,cd.

    Only ``Dense`` layers without bias (a constant is no tensor) and sums over atoms follow it: nonlinearities mix
    components in a way that depends on the axes. Degrees that the features do not have (l >= the bandlimit of a network
    without nonlinearities, or of the last filter) are refused, as the kernel would be zero.
    Raises ValueError for these and for wrong arguments.
    """

    l: int = eqx.field(static=True)  # noqa: E741 - the field's name
    parity: int | None = eqx.field(static=True)
    basis: str = eqx.field(static=True)

    def __init__(self, l: int, parity: int | None = None, basis: str = "real"):  # noqa: E741
        if basis not in ("real", "cartesian"):
            raise ValueError(f'IrrepPool: expected basis "real" or "cartesian", got {basis!r}.')
        Irrep(l, parity)
        if basis == "cartesian":
            cartesian_from_real(l)
        self.l, self.parity, self.basis = int(l), parity, basis

    @property
    def irrep(self) -> Irrep:
        """Degree and parity."""
        return Irrep(self.l, self.parity)

    @property
    def shape(self) -> tuple[int, ...]:
        """(2l + 1, 2l + 1), and (9, 9) for Cartesian tensors."""
        side = 2 * self.l + 1 if self.basis == "real" else 3**self.l
        return (side, side)

    @property
    def after(self) -> Geometry:
        """Components of a tensor."""
        return Multiplet(self.irrep)

    def finish(self, block: Float[Array | np.ndarray, "... m m"]) -> Float[Array | np.ndarray, "... a a"]:
        """The block in the basis asked for."""
        if self.basis == "real":
            return block
        change = jnp.asarray(cartesian_from_real(self.l), block.dtype)
        return jnp.einsum("am,...mn,bn->...ab", change, block, change, precision=HIGHEST)

    def apply(self, params: Any, features: Features) -> Features:
        """The components (N, 2l + 1, (2l + 1) C) of the features."""
        found = features.project(self.irrep)
        if self.basis == "real":
            return found
        change = jnp.asarray(cartesian_from_real(self.l), found.values.dtype)
        return found.map_components(change)
