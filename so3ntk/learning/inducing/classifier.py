"""Classification with inducing inputs, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from so3ntk.basics.arrays import ArrayLike
from so3ntk.engine.network import Network
from so3ntk.learning.classifier import centred_one_hot, classes_of, decide, left_out_accuracy, scores_of
from so3ntk.learning.inducing.estimator import InducingEstimator, fit_inducing, training_batch
from so3ntk.learning.inputs import check_inputs
from so3ntk.learning.weights import weights_with_classes


class InducingClassifier(ClassifierMixin, InducingEstimator):
    r"""The class with the largest output of a regression with inducing inputs on centred one-hot targets.

    .. math:: \hat c(x) = \arg\max_c \Bigl(b_c + \sum_z w_{zc}\, k(x, z)\Bigr), \qquad
              Y_{ic} = \delta_{c, c_i} - 1/k \quad \text{for } k \text{ classes}

    Parameters as for ``InducingRegressor``, without a baseline and with an intercept for each class; class_weight: as for
    ``KernelClassifier``. After ``fit``:
    ``classes_``, the labels, sorted; ``loo_accuracy_``, the share of training inputs whose class is right as predicted from all
    others; ``dual_coef_`` (m, k); ``intercept_`` (k,); and ``inducing_``, ``ridge_``, ``loo_error_``, ``ridge_path_``,
    ``loo_path_``, ``whitening_`` and ``posterior_`` as there.
    """

    baseline = None

    def __init__(
        self,
        net: Network | None = None,
        inducing: int | Any | None = None,
        selection: str = "farthest",
        kernel: str = "ntk",
        ridge: float | None = None,
        ridge_path: ArrayLike | None = None,
        memory: str | int = "2GiB",
        progress: bool = False,
        store: Any = None,
        client: Any = None,
        random_state: Any = 0,
        class_weight: Mapping[Any, float] | str | None = None,
    ):
        super().__init__(
            net, inducing, selection, kernel, ridge, ridge_path, memory, progress, store, client, random_state
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> InducingClassifier:
        """Fit to n inputs X and labels y (n,), numbers or text, of two or more classes. Raises as ``InducingRegressor.fit``.

        sample_weight: (n,), the rows' weights, times those of their classes, as there.
        """
        X = training_batch(self, X)
        self.classes_, labels = classes_of(y, len(X), type(self).__name__)
        targets = centred_one_hot(labels, len(self.classes_))
        weights = weights_with_classes(self, labels, sample_weight)
        found = fit_inducing(self, X, targets, True, weights)
        self.dual_coef_, self.intercept_ = found.dual_coef, found.fit.columns[0]
        self.loo_accuracy_ = left_out_accuracy(targets, found.fit.loo, labels, weights)
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "m ..."]:
        """The outputs at m inputs X: (m, k); for two classes (m,), the output of the second."""
        check_is_fitted(self)
        X = check_inputs(self, X, reset=False)
        outputs = [block @ self.dual_coef_ + self.intercept_ for _, _, block in self.feature_blocks(X)]
        return scores_of(np.concatenate(outputs))

    def predict(self, X: Any) -> np.ndarray:
        """The labels (m,) of m inputs X. Raises as ``decision_function``."""
        check_is_fitted(self)
        return self.classes_[decide(self.decision_function(X))]
