"""What the estimators share: their parameters, what they accept as inputs, and the kernels of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from so3ntk.basics.arguments import check_flag, is_number
from so3ntk.basics.arrays import ArrayLike, native, refuse_masked
from so3ntk.engine.activations import Relu
from so3ntk.engine.demand import readout_of
from so3ntk.engine.layers import Dense
from so3ntk.engine.network import Network, check_kernel_name, serial
from so3ntk.engine.plan import parse_memory
from so3ntk.errors import PrecisionError
from so3ntk.learning.predict.inputs import first_not_finite, symmetric
from so3ntk.learning.solvers import Solution, Solver
from so3ntk.matrices.gram import precise_gram
from so3ntk.sphere.layers.flatten import Flatten

#: Candidates for the ridge, in units of the mean of K's diagonal.
RELATIVE_RIDGES = np.logspace(-10, 1, 45)


class KernelEstimator(BaseEstimator):
    """What estimators with the kernel of a network have in common: parameters, as given until ``fit`` checks them."""

    net: Any
    kernel: str
    ridge: float | None
    ridge_path: ArrayLike | None
    memory: str | int
    progress: bool


class ColumnEstimator(KernelEstimator):
    """The estimators that fit columns of numbers, by any solver and up to any time."""

    t: float | None
    learning_rate: float
    solver: str | Solver | None
    # After ``fit``:
    ridge_: float
    loo_error_: float
    ridge_path_: np.ndarray
    loo_path_: np.ndarray
    X_fit_: Any
    dual_coef_: np.ndarray
    intercept_: np.ndarray | float
    solution_: Solution

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = is_precomputed(self.net)
        return tags


def default_network() -> Network:
    """The network of ``net=None``, on arrays (n, d): two hidden ReLU layers, W_std = sqrt(2), b_std = 1.

    It averages over the d columns: bring them to unit variance first (``StandardScaler``).
    """
    hidden = [layer for _ in range(2) for layer in (Dense(W_std=2**0.5, b_std=1.0), Relu())]
    return serial(Flatten(), *hidden, Dense(W_std=2**0.5, b_std=1.0))


def is_precomputed(net: object) -> bool:
    """Whether X is to be the kernel itself."""
    return isinstance(net, str) and net == "precomputed"


def check_net(estimator: KernelEstimator, precomputed: bool = True) -> None:
    """TypeError for what is no network, ValueError for one whose kernels are blocks."""
    where, net = type(estimator).__name__, estimator.net
    if not (net is None or isinstance(net, Network) or (precomputed and is_precomputed(net))):
        others = 'None, a Network (so3ntk.serial(...)) or "precomputed"' if precomputed else "None or a Network"
        remedy = (
            "Of a stax triple give the network itself." if not is_precomputed(net) else "KernelRegressor takes kernels."
        )
        raise TypeError(f"{where}: expected net to be {others}, got {net!r}. {remedy}")
    readout = readout_of(net.layers) if isinstance(net, Network) else None
    if readout is not None and readout.shape:
        raise ValueError(
            f"{where}: the network ends in {readout.irrep}, whose kernels are blocks for vectors and tensors. Use "
            "TensorKernelRegressor, or GroupPool() for scalar targets."
        )


def check_parameters(estimator: ColumnEstimator) -> None:
    """TypeError or ValueError for parameters that no data can make right."""
    check_net(estimator)
    where = type(estimator).__name__
    check_shared_parameters(estimator)
    t, rate = estimator.t, estimator.learning_rate
    if t is not None and not (is_number(t) and t >= 0):
        raise ValueError(f"{where}: expected t to be None (trained to the end) or a time >= 0, got {t!r}.")
    if not (is_number(rate) and 0 < rate < np.inf):
        raise ValueError(f"{where}: expected learning_rate to be a finite number > 0, got {rate!r}.")


def check_shared_parameters(estimator: KernelEstimator) -> None:
    """TypeError or ValueError for values, used or not, that no estimator takes."""
    where, ridge = type(estimator).__name__, estimator.ridge
    check_kernel_name(estimator.kernel, where)
    if ridge is not None and not (is_number(ridge) and 0 <= ridge < np.inf):
        raise ValueError(f"{where}: expected ridge to be None or a finite number >= 0, got {ridge!r}.")
    if estimator.ridge_path is not None:
        check_path(estimator.ridge_path, where)
    parse_memory(estimator.memory)
    for name in ("fit_intercept", "progress"):
        check_flag(getattr(estimator, name, True), where, name)


def check_inputs(estimator: KernelEstimator, X: Any, reset: bool) -> Any:
    """The inputs: kernels and 2-D arrays as scikit-learn checks them, other batches as they are."""
    where, validate = type(estimator).__name__, untyped(validate_data)
    refuse_masked(X, f"{where}: the inputs X")
    X = native(X)
    if is_precomputed(estimator.net):
        values = untyped(check_array)(X, dtype=np.float64, ensure_all_finite=False, estimator=where)
        if not np.isfinite(values).all():
            raise ValueError(f"{first_not_finite(values, where)} Look at these two inputs.")
        validate(estimator, X, reset=reset, skip_check_array=True)
        return values
    refuse_parts(X, where)
    if estimator.net is None or isinstance(X, list) or getattr(X, "ndim", None) == 2:
        return validate(estimator, X, reset=reset, dtype=[np.float64, np.float32])
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise TypeError(
            f"{where}: expected a batch of inputs that the network's first layer reads (a SphereSignal, "
            f"Environments or an array), got {type(X).__name__}."
        )
    if reset and len(X) == 0:
        raise ValueError(f"{where}: expected at least one training input, got an empty batch.")
    return X


def refuse_parts(X: Any, where: str) -> None:
    """TypeError for a list of batches, images or molecules, which says how they become one batch."""
    if not isinstance(X, list | tuple) or len(X) == 0:
        return
    first, remedy = X[0], None
    shape = np.shape(first) if hasattr(first, "shape") or isinstance(first, list | tuple) else ()
    joined = getattr(first, "joined", None)
    if joined is not None:
        remedy = f"Join them: {joined}"
    elif type(first).__module__.partition(".")[0] == "ase":
        remedy = "Compute their environments: so3ntk.molecules.environments(X)"
    elif len(shape) >= 2:
        remedy = "Make them one array (n, ...), all of one size: numpy.stack(X)"
    if remedy is not None:
        raise TypeError(
            f"{where}: expected X to be one batch of inputs, got a {type(X).__name__} of {len(X)}, the first a "
            f"{type(first).__name__}{f' of shape {shape}' if shape else ''}. {remedy}."
        )


def untyped(function: Callable) -> Callable:
    """scikit-learn's annotations follow its defaults, not what it accepts."""
    return function


def training_kernel(estimator: ColumnEstimator, X: Any) -> Float[np.ndarray, "n n"]:
    """The finite float64 kernel of checked training inputs, symmetric to the bit."""
    if is_precomputed(estimator.net):
        return _symmetric(X, type(estimator).__name__)
    return _network_kernel(estimator, X, None)


def cross_kernel(estimator: ColumnEstimator, X: Any) -> Float[np.ndarray, "m n"]:
    """The finite float64 kernel of checked test inputs with the training inputs ``X_fit_``."""
    return X if is_precomputed(estimator.net) else _network_kernel(estimator, X, estimator.X_fit_)


def network_of(estimator: KernelEstimator) -> Network:
    """The estimator's network, or the one of ``net=None``."""
    return default_network() if estimator.net is None else estimator.net


def is_stopped(estimator: ColumnEstimator) -> bool:
    """Whether training ends at a finite time."""
    return estimator.t is not None and estimator.t < np.inf


def _symmetric(kernel: Float[np.ndarray, "n n"], where: str) -> Float[np.ndarray, "n n"]:
    """A precomputed kernel of the training inputs, symmetric to the bit."""
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(
            f'{where}: expected a square kernel (n, n) of the training inputs for net="precomputed", got '
            f"{kernel.shape}. For features (n, d) use net=None."
        )
    return symmetric(kernel, where)


def _network_kernel(estimator: ColumnEstimator, x1: Any, x2: Any) -> Float[np.ndarray, "n m"]:
    """The finite float64 kernel of the estimator's network."""
    options = {"memory": estimator.memory, "progress": estimator.progress}
    values = precise_gram(network_of(estimator), x1, x2, estimator.kernel, **options)
    if not np.isfinite(values).all():
        raise PrecisionError(
            f"{first_not_finite(values, type(estimator).__name__)} The inputs are finite, so the network "
            "overflows: rescale the inputs, or compute in double precision."
        )
    return values


def candidate_ridges(path: ArrayLike | None, diagonal: Float[np.ndarray, " n"], where: str) -> Float[np.ndarray, " p"]:
    """The ridges to try, ascending: those of the path, or relative to the kernel's diagonal."""
    return RELATIVE_RIDGES * scale_of(diagonal) if path is None else check_path(path, where)


def scale_of(diagonal: Float[np.ndarray, " n"]) -> float:
    """The mean of a kernel's diagonal, the unit of ``RELATIVE_RIDGES``; 1 where it vanishes."""
    scale = float(np.mean(np.abs(diagonal)))
    return scale if scale > 0 else 1.0


def check_path(path: ArrayLike, where: str) -> Float[np.ndarray, " p"]:
    """The values of a ``ridge_path``, ascending, each once."""
    ridges = np.asarray(path)
    numbers = ridges.ndim == 1 and len(ridges) > 0 and ridges.dtype.kind in "fiu"
    if not (numbers and np.all((ridges >= 0) & np.isfinite(ridges))):
        raise ValueError(f"{where}: expected ridge_path to be a list of finite numbers >= 0, got {path!r}.")
    return np.unique(ridges.astype(np.float64))
