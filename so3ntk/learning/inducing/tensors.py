r"""Vectors and tensors from inducing parts: an inducing part has a function for each component of an irrep.

.. math:: \hat y^l(x) = b\,\delta_{l0} + \sum_z k^l(x, z)\, w_z, \qquad
          \min_{w, b}\ \sum_i |y^l_i - \hat y^l(x_i)|^2 + \lambda_l\, w^T K^l_{zz} w

with blocks k^l(x, z) and vectors w_z of 2l + 1 components: as k^l(x, \rho(s) z) = k^l(x, z) D^l(s)^T, the functions of a part and of its
rotations are the same, predictions turn with their inputs, and how far parts are from each other is what their invariant kernel says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from so3ntk.basics.progress import show_progress
from so3ntk.engine.network import Network
from so3ntk.engine.plan import make_plan, parse_memory
from so3ntk.learning.block_ridge import BlockSpectrum, as_matrix
from so3ntk.learning.feature_ridge import FeatureSpectrum, Posterior
from so3ntk.learning.inducing.dense import BYTES
from so3ntk.learning.inducing.estimator import ALL, ChoosesParts, prior_of, ridge_of
from so3ntk.learning.inducing.parts import blocks
from so3ntk.learning.inducing.whitening import Whitening
from so3ntk.learning.ridge import RidgeFit
from so3ntk.matrices.gram import precise_gram


@dataclass(frozen=True)
class BlockPosterior:
    """What deviations need of one irrep: the coordinates of its inducing functions, and their posterior."""

    whitening: Whitening
    posterior: Posterior

    def covariance(
        self, kernels: Float[np.ndarray, "t z ..."], prior: Float[np.ndarray, "t ..."], ridge: float, intercept: bool
    ) -> Float[np.ndarray, "t m m"]:
        r"""That of each input's components, in units of the amplitude and without the noise; intercept: of numbers.

        .. math:: K(x, x) - \tilde\phi\, (\tilde\Phi^T\tilde\Phi + \lambda)^{-1} \tilde\Phi^T\tilde\Phi\, \tilde\phi^T
        """
        if kernels.ndim == 2:
            features = self.whitening.features(kernels)
            columns = np.ones((len(features), int(intercept)))
            unexplained = prior - np.einsum("ij,ij->i", features, features)
            return (unexplained + self.posterior.variance(features, columns, ridge))[:, None, None]
        features = self.whitening.features(as_matrix(kernels))
        along = (features @ self.posterior.right.T).reshape(*kernels.shape[::3], -1)
        known = self.posterior.singular**2 / (self.posterior.singular**2 + ridge)
        return prior - (along * known) @ along.swapaxes(1, 2)


class InducedFit(NamedTuple):
    """The posterior, the ridge, and the solution, whose dual_coef (z, M) belong to the inducing parts."""

    posterior: BlockPosterior
    ridge: float
    fit: RidgeFit


def induces_all(estimator: ChoosesParts, net: Network, X: Any, components: int) -> bool:
    """Whether all training inputs induce: if it is asked for, or without a number if kernels are inner products of features,
    and the dense regression fits the memory."""
    if estimator.inducing is not None:
        return isinstance(estimator.inducing, str) and estimator.inducing == ALL
    if BYTES * (components * len(X)) ** 2 > parse_memory(estimator.memory):
        return False
    return make_plan(net.layers, net.quadrature, net.rtol, X[:1], None).features is not None


def fit_induced(
    estimator: ChoosesParts, net: Network, X: Any, y: Float[np.ndarray, "n m"], intercept: bool
) -> InducedFit:
    """The regression of one irrep on the functions of ``estimator.inducing_``, from the kernels of ``net``."""
    size = y.shape[1]
    whitening = Whitening.of(_flat(prior_of(estimator, net)), type(estimator).__name__)
    features = np.empty((y.size, len(whitening.factor)), order="F")  # as LAPACK takes them without a copy
    with show_progress(len(X), " inputs", "features", bool(estimator.progress)) as bar:
        for rows, part in blocks(X):
            kernels = _flat(precise_gram(net, part, estimator.inducing_, estimator.kernel, memory=estimator.memory))
            features[rows.start * size : rows.stop * size] = whitening.features(kernels)
            bar.update(rows.stop - rows.start)
    scale = float(np.einsum("ij,ij->", features, features)) / len(features) or 1.0
    if size == 1:
        rows_alone = FeatureSpectrum.of(features, np.ones((len(y), int(intercept))))
        spectrum, posterior = rows_alone, rows_alone.posterior()
    else:
        spectrum = BlockSpectrum.of(features, size)
        posterior = spectrum.rows.posterior()
    ridge, _, _ = ridge_of(estimator, spectrum, y, scale)
    fit = spectrum.solve(y, ridge)
    dual_coef = whitening.weights(fit.weights).reshape(-1, size)
    free = fit.columns[0] if len(fit.columns) else np.zeros(size)
    return InducedFit(BlockPosterior(whitening, posterior), ridge, RidgeFit(dual_coef, free, fit.loo, fit.amplitude))


def _flat(kernels: Float[np.ndarray, "n m ..."]) -> Float[np.ndarray, "nm km"]:
    return kernels if kernels.ndim == 2 else as_matrix(kernels)
