"""Gaussian process regression with inducing inputs, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.double import double_precision
from so3ntk.engine.network import Network
from so3ntk.learning.curves.curve import LearningCurve
from so3ntk.learning.curves.fitted import inducing_curve, kept_rows
from so3ntk.learning.draws import drawn
from so3ntk.learning.inducing.dense import DensePosterior
from so3ntk.learning.inducing.estimator import InducingEstimator, columns_of, fit_inducing, training_batch
from so3ntk.learning.inducing.parts import blocks, in_double
from so3ntk.learning.inputs import check_inputs, network_of
from so3ntk.learning.regressor import check_targets, like_targets
from so3ntk.learning.ridge import warn_if_flat
from so3ntk.learning.weights import checked_weights
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.gram import gram


class InducingRegressor(RegressorMixin, InducingEstimator):
    r"""Gaussian process regression whose functions are spanned by the kernels of m inducing inputs z.

    .. math:: \hat y(x) = b + \sum_e n_e(x)\, c_e + \sum_z w_z\, k(x, z), \qquad
              \min_{w, b, c}\ \sum_i (y_i - \hat y(x_i))^2 + \lambda\, w^T K_{zz} w

    For molecules K(M, M') is a sum over all pairs of atoms, and what induces are single atoms, k(M, z) = sum_i k(f_i, z): N
    molecules of 18 atoms cost 18 N m pairs of environments in place of 162 N^2, and a prediction 18 m. Elsewhere inputs induce.

    Parameters:

    net, kernel, ridge_path, fit_intercept, memory, progress: as for ``KernelRegressor``; no precomputed kernels.
    inducing: how many parts induce; a batch, all parts of which do; or "all", the training inputs as they are, which is the dense
    regression. None is "all" where kernels are inner products of features, which cost little (networks of ``Products`` up to degree
    two), and 48 N^2 bytes fit ``memory``, without a store; else 2000 (N / 1000)^(1/3) parts, at most all there are.
    selection: "farthest" points in the kernel's metric, of each kind (element) in proportion; "cholesky", those with the largest
    variance left; "random". Chosen among at most 16 times as many parts, of inputs drawn at random.
    ridge: lambda, absolute, one noise for each input; None for the candidate with the smallest leave-one-out error, exact for
    inducing inputs as they are, with b and c in the same fit.
    baseline: "composition": c_e for the numbers n_e of parts of each name, as atoms of elements are, without a penalty; "auto",
    where the network sums over parts; None for no such columns.
    store: a folder in which the features of the training inputs are kept, 256 inputs a store; the same ``fit`` later computes what
    is missing, with the same bits. client: as for ``gram``. random_state: of the choice of inducing inputs.

    X may be a batch, or anything with a length that gives batches for slices and index arrays, such as
    ``molecules.LazyEnvironments``: only ``BLOCK`` inputs are then there at a time. Memory beyond them: 8 m (3 N + 6 m) bytes.

    After ``fit``: ``inducing_``, the batch of single parts, or all inputs; ``dual_coef_``, w (m,) or (m, k); ``intercept_``;
    ``composition_``, c by name; ``ridge_``, ``loo_error_``, ``ridge_path_``, ``loo_path_``, ``amplitude_`` as in
    ``KernelRegressor``; rows that alone determine a c_e have no leave-one-out error and are not counted; ``whitening_``: the
    Cholesky factor of k(Z, Z) in float64, with a ``jitter`` of 1e-6 of its mean diagonal, or more where its errors ask for it
    (None with all inputs, whose kernel is decomposed as it is); ``posterior_``; ``rows_``, the training inputs' features, decomposed, which
    ``learning_curve`` reads (None where they take more than a quarter of ``memory``, and not saved).

    Source: Quinonero-Candela & Rasmussen (2005), subset of regressors, and DTC for the deviations; Bartok & Csanyi (2015).
    """

    def __init__(
        self,
        net: Network | None = None,
        inducing: int | Any | None = None,
        selection: str = "farthest",
        kernel: str = "ntk",
        ridge: float | None = None,
        ridge_path: ArrayLike | None = None,
        fit_intercept: bool = True,
        baseline: str | None = "auto",
        memory: str | int = "2GiB",
        progress: bool = False,
        store: Any = None,
        client: Any = None,
        random_state: Any = 0,
    ):
        super().__init__(
            net, inducing, selection, kernel, ridge, ridge_path, memory, progress, store, client, random_state
        )
        self.fit_intercept = fit_intercept
        self.baseline = baseline

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> InducingRegressor:
        """Fit to n inputs X and targets y (n,) or (n, k), which share one ridge: bring them to one scale.

        sample_weight: w (n,), at least zero: row i has the noise ridge / w_i. A row of weight 2 predicts as two equal rows do, one of
        weight zero is not there, nor among what may induce. Leave-one-out errors are weighted means; ``amplitude_`` counts rows.

        Raises ValueError and TypeError for wrong inputs, more inducing parts than there are, and a ridge of zero;
        PrecisionError for kernels that are not finite; StoreMismatchError for a store of another run. Warns
        (RidgePathWarning) if the best ridge is at an end of the path.
        """
        X = training_batch(self, X)
        targets = check_targets(y, len(X), type(self).__name__)
        columns = targets.reshape(len(targets), -1)
        weights = checked_weights(sample_weight, len(columns), f"{type(self).__name__}.fit: sample_weight")
        found = fit_inducing(self, X, columns, bool(self.fit_intercept), weights)
        self.rows_ = kept_rows(found.spectrum, columns, self.memory)
        first = int(self.fit_intercept)
        self.dual_coef_ = found.dual_coef.reshape(-1, *targets.shape[1:])
        self.intercept_ = like_targets(found.fit.columns[0] if first else np.zeros(found.dual_coef.shape[1]), targets)
        values = [like_targets(row, targets) for row in found.fit.columns[first:]]
        self.composition_ = dict(zip(found.labels, values, strict=True))
        self.amplitude_ = like_targets(found.fit.amplitude, targets)
        return self

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> np.ndarray: ...
    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(self, X: Any, *, return_cov: Literal[True]) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(
        self, X: Any, return_std: bool, return_cov: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: Any, return_std: bool = False, return_cov: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        r"""The mean at m inputs X, (m,) or (m, k); with ``return_std`` also the standard deviation, with ``return_cov`` the covariance
        (m, m) or (m, m, k), without the noise.

        .. math:: s\,\bigl(k(x, x) - |\tilde\phi|^2 + \lambda\,\tilde\phi\,(\tilde\Phi^T\tilde\Phi + \lambda)^{-1} \tilde\phi^T
                  \bigr)^{1/2}, \qquad \tilde\phi = k(x, Z) K_{zz}^{-1/2}

        with what b and c add (see ``feature_ridge``): what the inducing functions cannot tell, and what the data leave of them; with all
        inputs inducing the posterior of the Gaussian process, as in ``KernelRegressor``. An interval that is to hold a new *target*
        has the noise as well: (std^2 + ridge_ amplitude_^2)^(1/2).
        k(x, x) costs an input's own pairs of parts, a covariance those of all inputs, and all is computed in float64.

        Raises NotFittedError before ``fit``, ValueError for inputs unlike those of ``fit`` and for names of parts (elements) that
        no training input had. Warns that deviations are zero where the targets were constant.
        """
        check_is_fitted(self)
        X = check_inputs(self, X, reset=False)
        if return_std and return_cov:
            raise ValueError(
                f"{type(self).__name__}.predict: ask for return_std or return_cov, whose diagonal it squares."
            )
        if (return_std or return_cov) and not hasattr(self, "posterior_"):
            raise ValueError(
                f"{type(self).__name__}.predict: deviations need what was left out of the saved file (spectrum=False). Save it "
                "whole, or fit again."
            )
        means = [self._mean(self._columns(part), block) for _, part, block in self.feature_blocks(X)]
        if not (return_std or return_cov):
            return np.concatenate(means)
        warn_if_flat(np.atleast_1d(self.amplitude_), f"{type(self).__name__}.predict")
        if return_cov:
            return np.concatenate(means), np.multiply.outer(self._covariance(X), np.square(self.amplitude_))
        variances = [self._variance(part) for _, part in blocks(X)]
        return np.concatenate(means), np.multiply.outer(np.sqrt(np.concatenate(variances)), self.amplitude_)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> Float[np.ndarray, "m ..."]:
        """Functions drawn from the posterior at m inputs X: (m, n_samples), for targets (n, k) (m, k, n_samples).

        Their mean and covariance are those of ``predict``, so without the noise; see ``KernelRegressor.sample_y``.
        """
        return drawn(*self.predict(X, return_cov=True), self.amplitude_, n_samples, random_state)

    def learning_curve(self, sizes: Iterable[int], ridge: float | None = None) -> LearningCurve:
        """The errors to expect from training on other numbers of such inputs, with these inducing inputs, by the decomposition of the fit.

        sizes: a list of numbers of training inputs, more than those of ``fit`` too; ridge: absolute; None for the estimator's own, or the
        best one at each size where that chooses it. Intercept and composition are in it. What is predicted, and how:
        ``spectra.GramSpectrum.learning_curve``. Functions that these inducing inputs do not span stay unlearned at all sizes: where more inputs
        would bring more of them, as by default, errors can fall faster. ValueError for fewer than ten inputs, and after ``load``.
        """
        return inducing_curve(self, sizes, ridge)

    def _columns(self, X: Any) -> Float[np.ndarray, "n c"]:
        return columns_of(self, X, bool(self.fit_intercept), tuple(self.composition_))

    def _mean(
        self, columns: Float[np.ndarray, "n c"], features: Float[np.ndarray, "n m"]
    ) -> Float[np.ndarray, "n ..."]:
        first = [self.intercept_] if self.fit_intercept else []
        known = np.array([*first, *self.composition_.values()]).reshape(columns.shape[1], *self.dual_coef_.shape[1:])
        return features @ self.dual_coef_ + columns @ known

    def _variance(self, X: Any) -> Float[np.ndarray, " n"]:
        net = network_of(self)
        with double_precision():
            prior = kernel_diagonal(net, in_double(net, X), self.kernel)
        kernels, columns = self.features(X, double=True), self._columns(X)
        if isinstance(self.posterior_, DensePosterior):
            return self.posterior_.variance(kernels, columns, prior, self.ridge_)
        assert self.whitening_ is not None
        features = self.whitening_.features(kernels)
        explained = np.einsum("ij,ij->i", features, features)
        return np.maximum(prior - explained, 0) + self.posterior_.variance(features, columns, self.ridge_)

    def _covariance(self, X: Any) -> Float[np.ndarray, "n n"]:
        net, kernels = network_of(self), self.features(X, double=True)
        columns = np.concatenate([self._columns(part) for _, part in blocks(X)])
        with double_precision():
            prior = np.asarray(gram(net, in_double(net, X[:]), None, self.kernel, memory=self.memory, progress=False))
        if isinstance(self.posterior_, DensePosterior):
            return self.posterior_.covariance(kernels, columns, prior, self.ridge_)
        assert self.whitening_ is not None
        features = self.whitening_.features(kernels)
        return prior - features @ features.T + self.posterior_.covariance(features, columns, self.ridge_)
