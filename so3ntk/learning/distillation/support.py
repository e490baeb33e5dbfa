"""What distillation returns: the support, and predictions from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float, PyTree

from so3ntk.basics.plots import require_matplotlib
from so3ntk.engine.network import Network
from so3ntk.errors import PrecisionError
from so3ntk.learning.distillation.inputs import as_batch
from so3ntk.learning.distillation.loss import pair_kernel
from so3ntk.learning.distillation.picture import draw_support, size_of
from so3ntk.learning.regressor import KernelRegressor
from so3ntk.matrices.gram import gram, precise_gram

#: Inputs whose kernels with the support are computed at once.
ROWS = 4096


@dataclass(frozen=True, eq=False)
class Distilled:
    """A support set: few inputs that stand for a data set in kernel ridge regression.

    net, kernel: as given. inputs: n of them, of the kind of the data. targets (n,) or (n, k), as of the data; for labels centred
    one-hot vectors, or what was learned. classes: the labels, sorted; None where the data had targets. ridge: lambda, absolute, of
    the support. losses (steps,): before each step, of its batch. dual_coef (n, ...): (K_ss + lambda I)^-1 y_s. drawn_as (n,): the
    labels that the inputs began with; None where the data had targets.
    """

    net: Network | Callable
    kernel: str
    inputs: PyTree
    targets: Float[np.ndarray, "n ..."]
    classes: np.ndarray | None
    ridge: float
    losses: Float[np.ndarray, " steps"]
    dual_coef: Float[np.ndarray, "n ..."]
    drawn_as: np.ndarray | None

    @property
    def labels(self) -> np.ndarray:
        """The class of each support input: that of its largest target, which may have been learned. ValueError where the data had targets."""
        return self._require_classes()[np.argmax(self.targets, axis=1)]

    def outputs(self, x: Any) -> Float[np.ndarray, "m ..."]:
        """K(x, s) (K_ss + lambda I)^-1 y_s at m inputs x, a part at a time: (m,) or (m, k)."""
        batch, kernels = as_batch(x), []
        for i in range(0, max(len(x), 1), ROWS):
            part = jax.tree.map(lambda a, i=i: jnp.asarray(a[i : i + ROWS]), batch)
            kernels.append(_matrix(self.net, self.kernel, part, self.inputs))
        return np.concatenate(kernels) @ self.dual_coef

    def predict(self, x: Any) -> np.ndarray:
        """The labels (m,) of m inputs x, those of the largest outputs; for data with targets the outputs."""
        outputs = self.outputs(x)
        return outputs if self.classes is None else self.classes[np.argmax(outputs, axis=1)]

    def score(self, x: Any, y: Any) -> float:
        """The share of labels that are right. ValueError where the data had targets."""
        self._require_classes()
        return float(np.mean(self.predict(x) == np.asarray(y)))

    def regressor(self) -> KernelRegressor:
        """The same predictions as an estimator, which ``so3ntk.save`` keeps and which has standard deviations.

        For a classifier: ``KernelClassifier(net, ridge=found.ridge).fit(found.inputs, found.labels)``. TypeError where the kernel is a
        function: estimators take networks.
        """
        if not isinstance(self.net, Network):
            raise TypeError(
                'Distilled.regressor: estimators take networks, and this kernel is a function. Use KernelRegressor("precomputed") '
                "on its matrices, or predict."
            )
        model = KernelRegressor(self.net, self.kernel, ridge=self.ridge, fit_intercept=False)
        return model.fit(self.inputs, self.targets)

    def plot(
        self,
        path: str | PathLike | None = None,
        *,
        axes: Any = None,
        shape: Sequence[int] | None = None,
        title: str = "",
    ) -> Any:
        """The support inputs as pictures, a column for each class that they began with; signals on the sphere as maps.

        path: a file to write. axes: matplotlib's; without them a figure is made. shape: (H, W) or (H, W, C) of inputs that are
        vectors. Returns the axes. ImportError without matplotlib.
        """
        plt = require_matplotlib("Distilled.plot")
        if axes is None:
            size = size_of(self.inputs, self.drawn_as, shape)
            _, axes = plt.subplots(figsize=size, layout="constrained")
        draw_support(axes, self.inputs, self.drawn_as, shape, title)
        if path is not None:
            axes.figure.savefig(path, dpi=150)
            plt.close(axes.figure)
        return axes

    def _require_classes(self) -> np.ndarray:
        if self.classes is None:
            raise ValueError("Distilled: the data had targets, not labels, so that there are no classes.")
        return self.classes


def fitted(net: Network | Callable, kernel: str, inputs: PyTree, targets: np.ndarray, diag_reg: float) -> Any:
    """(ridge, dual coefficients) in float64. PrecisionError where the matrix cannot be factorised."""
    k = _matrix(net, kernel, inputs, None)
    ridge = diag_reg * float(np.trace(k)) / len(k)
    try:
        factor = scipy.linalg.cho_factor((k + k.T) / 2 + ridge * np.eye(len(k)), lower=True)
    except scipy.linalg.LinAlgError as error:
        raise PrecisionError(
            f"distill: the kernel of the support, whose diag_reg is {diag_reg:g}, is not positive definite to its precision. Raise "
            "diag_reg, or compute in double precision: jax_enable_x64 and x in float64."
        ) from error
    return ridge, scipy.linalg.cho_solve(factor, targets.astype(np.float64))


def _matrix(net: Network | Callable, kernel: str, x1: PyTree, x2: PyTree) -> Float[np.ndarray, "m n"]:
    """One kernel in float64: in tiles for networks."""
    if isinstance(net, Network):
        return np.asarray(
            precise_gram(net, x1, x2, kernel) if x2 is None else gram(net, x1, x2, kernel, progress=False), np.float64
        )
    return np.asarray(pair_kernel(net, kernel)(x1, x2), np.float64)
