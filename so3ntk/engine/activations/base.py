"""What a nonlinearity is to the kernels: the two Gaussian expectations of its dual."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from jaxtyping import Array, Float

from so3ntk.engine.features import Features
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.state import State, or_nan


class Nonlinearity(Layer):
    r"""What acts on channels that are Gaussian, and on their kernels in closed form, for arrays c, q1, q2 that broadcast.

    The layer maps K <- dual(K, q1, q2) and Theta <- derivative_dual(K, q1, q2) Theta, with
    derivative_dual = d dual / dc, and variances q <- variance(q).
    """

    @abstractmethod
    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """The kernel after the layer."""

    @abstractmethod
    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """By what the layer multiplies the tangent kernel."""

    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """``dual`` and ``derivative_dual``; of ``JointDuals`` what an author writes."""
        return self.dual(c, q1, q2), self.derivative_dual(c, q1, q2)

    @abstractmethod
    def variance(self, q: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """``dual`` at c = q1 = q2 = q, in closed form."""

    def powers(self, q1: Float[Array, ""], q2: Float[Array, ""]) -> Float[Array, " k"] | None:
        """The coefficients of ``dual`` in powers of c, if it is a polynomial (``polynomial_degree``); else None."""
        return None

    @property
    def uses_variances(self) -> bool:
        """True."""
        return True

    @property
    @abstractmethod
    def homogeneity(self) -> float | None:
        """p if scaling c, q1 and q2 by s scales ``dual`` by s^p, else None."""

    def __call__(self, state: State) -> State:
        """The state after the nonlinearity; NaN where a variance falls below the smallest number on the way."""
        if not self.homogeneity:  # others have a scale, beside which that is nothing
            return state.activate(self.duals, self.variance, self.powers)
        return state.activate(self.duals, lambda q: or_nan(self.variance(q), q > 0), self.powers)


class Activation(Nonlinearity):
    r"""A pointwise nonlinearity phi. For (u, v) ~ N(0, [[q1, c], [c, q2]]) an author writes

    .. math:: \mathrm{dual} = E[\phi(u)\phi(v)], \qquad
              \mathrm{derivative\_dual} = E[\phi'(u)\phi'(v)] = \partial\,\mathrm{dual} / \partial c,

    both for arrays c, q1, q2 that broadcast against each other, and ``variance`` = E[phi(u)^2] for q1 alone.
    ``homogeneity`` is p if phi(s u) = s^p phi(u) for s > 0.
    """

    @abstractmethod
    def phi(self, u: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """The nonlinearity itself, pointwise."""

    def apply(self, params: Any, features: Features) -> Features:
        """phi of the features."""
        return features.activate(self.phi)


class JointDuals(Activation):
    """A nonlinearity whose two duals have much in common: an author writes ``duals`` alone."""

    @abstractmethod
    def duals(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> tuple[Float[Array, " ..."], Float[Array, " ..."]]:
        """E[phi(u) phi(v)] and E[phi'(u) phi'(v)]."""

    def dual(self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]) -> Float[Array, " ..."]:
        """E[phi(u) phi(v)], the first of ``duals``."""
        return self.duals(c, q1, q2)[0]

    def derivative_dual(
        self, c: Float[Array, " ..."], q1: Float[Array, " ..."], q2: Float[Array, " ..."]
    ) -> Float[Array, " ..."]:
        """E[phi'(u) phi'(v)], the second of ``duals``."""
        return self.duals(c, q1, q2)[1]
