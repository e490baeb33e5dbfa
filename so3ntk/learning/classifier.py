"""Classification with the kernels of infinitely wide networks, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.engine.network import Network
from so3ntk.learning.fitting import fit_columns, means, training_inputs
from so3ntk.learning.inputs import ColumnEstimator, check_inputs, untyped
from so3ntk.learning.solvers import Solver
from so3ntk.learning.weights import weights_with_classes
from so3ntk.matrices.kernel_matrix import MatrixLike


class KernelClassifier(ClassifierMixin, ColumnEstimator):
    r"""The class with the largest output of a kernel ridge regression on centred one-hot targets.

    .. math:: \hat c(x) = \arg\max_c \Bigl(b_c + \sum_i \alpha_{ic} K(x, x_i)\Bigr), \qquad
              (K + \lambda I)\,\alpha = Y - 1 b^T, \quad 1^T \alpha = 0, \quad
              Y_{ic} = \delta_{c, c_i} - 1/k \quad \text{for } k \text{ classes}

    With the NTK and lambda -> 0 the outputs are the mean of those of infinitely wide networks trained on the squared
    loss, beside an intercept b without a penalty, as in ``KernelRegressor``.

    Parameters:

    net: a ``Network``, for what its first layer reads (``SphereSignal``, images (n, H, W, C), ...); None for
    ``default_network`` on arrays (n, d); "precomputed" if X is the kernel itself: K (n, n) in ``fit``,
    K(x, x_i) (n_test, n) in ``predict``, which saves cross-validation computing it for each fit.
    kernel: "ntk" or "nngp"; without meaning for "precomputed".
    ridge: lambda, absolute, the variance added to K's diagonal; None for the candidate with the smallest
    leave-one-out error of the regression, which is exact and needs no refits.
    ridge_path: the candidates, absolute; None for 45 values from 1e-10 to 10 times the mean of K's diagonal.
    memory, progress, solver: as for ``KernelRegressor``.
    class_weight: a dict from labels to weights of their rows, 1 for others, or "balanced": n / (k n_c) for the n_c rows of a class;
    a weight w divides the row's ridge. None for ones.
    t, learning_rate: the time at which gradient flow from zero is stopped, as in ``predict.gradient_flow`` on the n k
    entries of Y; None or inf for the end, the solution above. At a finite t b is at its optimum at all times,
    ridge=None means 0, and leave-one-out results are NaN.

    After ``fit``: ``classes_``, the labels, sorted; ``ridge_``; ``loo_accuracy_``, the share of training inputs
    whose class is right as predicted from all others; ``loo_error_``, the root mean square error of these
    predictions as a regression, over rows and classes; ``ridge_path_`` and ``loo_path_``, the candidates and
    their errors (NaN for those too small for K + ridge I to be positive definite); ``dual_coef_``, alpha
    (n, k); ``intercept_``, b (k,); ``X_fit_``, unless "precomputed"; ``n_features_in_``, for 2-D arrays. Solves are
    in float64. Left out is one input, not its class: k stays where it was the only one of its class.

    There is no ``predict_proba``: the outputs estimate the targets Y, can lie outside of their range, and have
    no likelihood of classes behind them. ``CalibratedClassifierCV`` of scikit-learn makes probabilities of them.

    Source of the targets: Lee et al. (2020), "Finite versus infinite neural networks".
    """

    def __init__(
        self,
        net: Network | str | None = None,
        kernel: str = "ntk",
        ridge: float | None = None,
        ridge_path: ArrayLike | None = None,
        memory: str | int = "2GiB",
        progress: bool = False,
        t: float | None = None,
        learning_rate: float = 1.0,
        solver: str | Solver | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
    ):
        self.net = net
        self.kernel = kernel
        self.ridge = ridge
        self.ridge_path = ridge_path
        self.memory = memory
        self.progress = progress
        self.t = t
        self.learning_rate = learning_rate
        self.solver = solver
        self.class_weight = class_weight

    def fit(
        self, X: Any, y: Any, gram: MatrixLike | None = None, sample_weight: ArrayLike | None = None
    ) -> KernelClassifier:
        """Fit to n inputs X, or their kernel (n, n), and labels y (n,), numbers or text, of two or more classes.

        gram: the kernel of X where it is there already, in memory or stored; sample_weight: (n,), the rows' weights, times
        those of their classes: both as for ``KernelRegressor.fit``.
        Raises ValueError and TypeError for wrong inputs, and for labels of which some are text and some numbers,
        NotPositiveDefiniteError if K + ridge I is not, PrecisionError if the network's kernel is NaN or infinite. Warns
        (RidgePathWarning) if the best ridge is at an end of the path.
        """
        X = training_inputs(self, X)
        self.classes_, labels = classes_of(y, len(X), type(self).__name__)
        targets = centred_one_hot(labels, len(self.classes_))
        weights = weights_with_classes(self, labels, sample_weight)
        found = fit_columns(self, X, targets, gram, True, weights).solution
        self.dual_coef_, self.intercept_ = found.dual_coef, found.intercept
        self.loo_accuracy_ = left_out_accuracy(targets, found.loo, labels, weights)
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "m ..."]:
        """The outputs at m inputs X: (m, k), close to 1 - 1/k for the class and to -1/k for the others.

        For two classes (m,): the output of the second, close to 1/2 or -1/2; that of the first is its negative.
        Raises NotFittedError before ``fit``, ValueError for inputs unlike those of ``fit``.
        """
        check_is_fitted(self)
        return scores_of(means(self, check_inputs(self, X, reset=False)))

    def predict(self, X: Any) -> np.ndarray:
        """The labels (m,) of m inputs X. Raises as ``decision_function``."""
        scores = self.decision_function(X)
        return self.classes_[decide(scores)]


def centred_one_hot(labels: Int[np.ndarray, " n"], k: int) -> Float[np.ndarray, "n k"]:
    """1 - 1/k for the label of each row, -1/k for the other classes: every row sums to zero."""
    return np.eye(k)[labels] - 1 / k


def classes_of(y: Any, n: int, where: str) -> tuple[np.ndarray, Int[np.ndarray, " n"]]:
    """The sorted distinct labels, and the number among them of each row's label."""
    if y is None:
        raise ValueError(f"{where}: requires y to be passed, but the target y is None.")
    refuse_masked(y, f"{where}: the labels y")
    refuse_mixed(y, where)
    y = untyped(column_or_1d)(y, warn=True)
    assert_all_finite(y, input_name="y", estimator_name=where)
    check_classification_targets(y)
    if len(y) != n:
        raise ValueError(f"{where}: expected a label for each of the {n} inputs, got y of shape {y.shape}.")
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{where}: expected labels of at least two classes, got the one class {classes[0]!r}.")
    return classes, labels


def refuse_mixed(y: Any, where: str) -> None:
    """TypeError for labels of which some are text and some numbers: NumPy would make text of all, or fail to sort them."""
    if hasattr(y, "dtype") and y.dtype != object:
        return
    labels = np.asarray(y, object).ravel()
    kinds: dict[str, object] = {}
    for label in labels:
        if isinstance(label, str):
            kinds.setdefault("text", label)
        elif isinstance(label, bytes):
            kinds.setdefault("bytes", label)
        elif isinstance(label, int | float | np.number | np.bool_):
            kinds.setdefault("numbers", label)
    if len(kinds) > 1:
        found = " and ".join(f"{kind} ({label!r})" for kind, label in kinds.items())
        raise TypeError(
            f"{where}: expected the labels y to be all of one kind, got {found}. Make text of all, [str(label) for label in "
            "y], or numbers of all."
        )


def left_out_accuracy(
    targets: np.ndarray, loo: np.ndarray, labels: np.ndarray, weights: Float[np.ndarray, " n"] | None = None
) -> float:
    """The share of right classes, weighted, when each row is predicted from all others; NaN where that is not known."""
    kept = slice(None) if weights is None else weights > 0
    if np.isnan(loo[kept]).any():
        return float("nan")
    right = decide(scores_of((targets - loo)[kept])) == labels[kept]
    return float(np.average(right, weights=None if weights is None else weights[kept]))


def scores_of(outputs: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m ..."]:
    """scikit-learn's shapes of a decision function: with two classes only the second's output."""
    return outputs[:, 1] if outputs.shape[1] == 2 else outputs


def decide(scores: Float[np.ndarray, "m ..."]) -> Int[np.ndarray, " m"]:
    """The number of the winning class; the first of equals."""
    return (scores > 0).astype(int) if scores.ndim == 1 else np.argmax(scores, axis=1)
