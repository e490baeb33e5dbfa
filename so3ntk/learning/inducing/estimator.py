"""What the estimators with inducing inputs share: parameters, the choice of what induces, features, and the fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.utils import check_random_state

from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.caller import warn
from so3ntk.basics.double import double_precision
from so3ntk.basics.memory import give_back
from so3ntk.basics.progress import show_progress
from so3ntk.engine.layers.reduction import Composition
from so3ntk.engine.network import Network
from so3ntk.engine.plan import make_plan, parse_memory, parts_of, split_at_reduction
from so3ntk.errors import RidgePathWarning
from so3ntk.learning.block_ridge import BlockSpectrum
from so3ntk.learning.feature_ridge import FeatureFit, FeatureSpectrum, Posterior, error_of
from so3ntk.learning.inducing.dense import BYTES, DensePosterior, DenseSpectrum
from so3ntk.learning.inducing.parts import (
    blocks,
    composition_of,
    counts_of,
    in_double,
    kinds_of,
    take,
)
from so3ntk.learning.inducing.selection import SELECTIONS, shares
from so3ntk.learning.inducing.whitening import Whitening
from so3ntk.learning.inputs import (
    RELATIVE_RIDGES,
    KernelEstimator,
    check_inputs,
    check_net,
    check_path,
    check_shared_parameters,
    network_of,
)
from so3ntk.learning.ridge import EPS
from so3ntk.matrices.gram import gram, precise_gram

#: Parts among which is chosen, for each that is; of more, inputs are drawn at random.
CANDIDATES = 16
BASELINES = ("auto", "composition", None)
#: All training inputs induce.
ALL = "all"


class ChoosesParts(KernelEstimator):
    """Estimators of which some parts of the training inputs may induce."""

    inducing: Any
    selection: str
    random_state: Any
    # After ``fit``:
    inducing_: Any


class InducingEstimator(ChoosesParts):
    """Regression on the functions k(., z) of inducing inputs z."""

    baseline: str | None
    store: Any
    client: Any
    # After ``fit``:
    dual_coef_: np.ndarray
    intercept_: np.ndarray | float
    composition_: dict[str, np.ndarray | float]
    posterior_: Posterior | DensePosterior
    whitening_: Whitening | None
    ridge_: float
    loo_error_: float
    ridge_path_: np.ndarray
    loo_path_: np.ndarray

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
    ):
        self.net = net
        self.inducing = inducing
        self.selection = selection
        self.kernel = kernel
        self.ridge = ridge
        self.ridge_path = ridge_path
        self.memory = memory
        self.progress = progress
        self.store = store
        self.client = client
        self.random_state = random_state

    def features(self, X: Any, double: bool = False) -> Float[np.ndarray, "n m"]:
        """k(x, Z) of checked inputs, in the precision of the signals or, in memory, in float64."""
        return np.concatenate([block for _, _, block in self.feature_blocks(X, double)])

    def feature_blocks(
        self, X: Any, double: bool = False, stored: bool = False
    ) -> Iterator[tuple[slice, Any, Float[np.ndarray, "b m"]]]:
        """Runs of inputs: which, the batch, and its features; of training inputs through the store, if there is one."""
        net, options = network_of(self), {"memory": self.memory, "progress": False, "client": self.client}
        with show_progress(len(X), " inputs", "features", bool(self.progress)) as bar:
            for rows, part in blocks(X):
                kept: dict[str, Any] = dict(options)
                if stored and self.store is not None:
                    kept["store"] = Path(self.store, f"features-{rows.start:08d}")
                compute = gram if "store" in kept else precise_gram
                if double:
                    with double_precision():
                        values = compute(net, in_double(net, part), in_double(net, self.inducing_), self.kernel, **kept)
                else:
                    values = compute(net, part, self.inducing_, self.kernel, **kept)
                yield rows, part, np.asarray(values, np.float64)
                bar.update(rows.stop - rows.start)


def default_count(n: int) -> int:
    """How many induce, of n inputs: 2,000 for 1,000, and with the cube root of n where there are more or fewer."""
    return round(2000 * (n / 1000) ** (1 / 3))


def training_batch(estimator: InducingEstimator, X: Any) -> Any:
    """The checked training inputs. ValueError and TypeError for these, and for parameters that no data can make right."""
    where = type(estimator).__name__
    check_net(estimator, precomputed=False)
    check_shared_parameters(estimator)
    if estimator.baseline not in BASELINES:
        raise ValueError(f'{where}: expected baseline to be "auto", "composition" or None, got {estimator.baseline!r}.')
    check_choice(estimator)
    if isinstance(estimator.inducing, str) and estimator.store is not None:
        raise ValueError(
            f'{where}: inducing="all" computes the kernel at once, of which store= would keep nothing. Leave store out, give a '
            "number of inducing parts, or keep the kernel by gram(store=) and fit KernelRegressor to it."
        )
    check_ridges(estimator)
    return check_inputs(estimator, X, reset=True)


def check_choice(estimator: ChoosesParts) -> None:
    """ValueError for a selection that is none, and for what cannot be inducing parts."""
    where, count = type(estimator).__name__, estimator.inducing
    if estimator.selection not in SELECTIONS:
        raise ValueError(
            f"{where}: expected selection to be one of {', '.join(SELECTIONS)}, got {estimator.selection!r}."
        )
    named = isinstance(count, str) and count != ALL
    if isinstance(count, bool | float) or named or (isinstance(count, int | np.integer) and count < 1):
        raise ValueError(
            f'{where}: expected inducing to be a number of parts, at least 1, "all", a batch of inputs or None, got {count!r}.'
        )


def check_ridges(estimator: KernelEstimator) -> None:
    """ValueError for no noise at all, which features cannot do without."""
    where = type(estimator).__name__
    if estimator.ridge == 0:
        raise ValueError(
            f"{where}: expected ridge > 0 (features of low rank leave noise), or None, got {estimator.ridge!r}."
        )
    if estimator.ridge_path is not None and not (check_path(estimator.ridge_path, where) > 0).any():
        raise ValueError(f"{where}: expected ridge_path to hold a number > 0, got {estimator.ridge_path!r}.")


def choose_inducing(estimator: ChoosesParts, X: Any, net: Network | None = None, default: int | None = None) -> Any:
    """The batch of inducing inputs, sorted by kind: the one given, or chosen among the parts of the training inputs.

    net: whose kernels, numbers, say how far parts are from each other; None for the estimator's. default: how many, where it says
    nothing; None for ``default_count``.
    """
    net, where, count = net or network_of(estimator), type(estimator).__name__, estimator.inducing
    if not (count is None or isinstance(count, int | np.integer)):
        batch = check_inputs(estimator, count, reset=False)
        return take(net, batch, np.arange(len(kinds_of(net, batch))))
    random = np.random.default_rng(check_random_state(estimator.random_state).randint(2**31))
    wanted = int(count) if count is not None else default_count(len(X)) if default is None else default
    pool = X[_candidates(net, X, wanted * CANDIDATES, random)]
    kinds = kinds_of(net, pool)
    if count is not None and wanted > len(kinds):
        unit = "inputs" if composition_of(net, X[:1]) is None else "atoms"
        raise ValueError(
            f"{where}: inducing={wanted} is more than the {len(kinds)} {unit} of the {len(X)} training inputs. Pass fewer, or "
            "inducing=None."
        )
    values, counts = np.unique(kinds, return_counts=True)
    options = {"memory": estimator.memory, "progress": False}

    def kernel(rows: np.ndarray, columns: np.ndarray) -> Float[np.ndarray, "a b"]:
        return np.asarray(
            gram(net, take(net, pool, rows), take(net, pool, columns), estimator.kernel, **options), np.float64
        )

    select, chosen = SELECTIONS[estimator.selection], []
    for kind, share in zip(values, shares(counts, min(wanted, len(kinds))), strict=True):
        parts = np.flatnonzero(kinds == kind)
        chosen.append(np.sort(select(kernel, parts, int(share), random)) if share < len(parts) else parts)
    return take(net, pool, np.concatenate(chosen))


def _candidates(net: Network, X: Any, wanted: int, random: np.random.Generator) -> np.ndarray:
    """The inputs among whose parts is chosen: all, or as many at random as have so many parts."""
    order, parts, inputs = random.permutation(len(X)), 0, 0
    while inputs < len(X) and parts < wanted:
        some = order[inputs : inputs + 64]
        parts += len(kinds_of(net, X[np.sort(some)]))
        inputs += len(some)
    return np.sort(order[:inputs])


def prior_of(estimator: ChoosesParts, net: Network | None = None) -> Float[np.ndarray, "m m ..."]:
    """k(Z, Z), in float64 and on a quadrature whose errors are far below the features'; of the estimator's network or another."""
    net, Z = net or network_of(estimator), estimator.inducing_
    reduction = split_at_reduction(net.layers)[1]
    quadrature = net.space.refined(parts_of(reduction, Z).signals, net.quadrature, net.rtol)
    with double_precision():
        precise = dataclasses.replace(net, quadrature=quadrature)
        return np.asarray(
            gram(
                precise,
                in_double(net, Z),
                None,
                estimator.kernel,
                memory=estimator.memory,
                progress=bool(estimator.progress),
            )
        )


class Rows(NamedTuple):
    """Whitened features of the training inputs, and their unpenalised columns with the names of those after the intercept."""

    features: Float[np.ndarray, "n r"]
    columns: Float[np.ndarray, "n c"]
    labels: tuple[str, ...]


def rows_of(estimator: InducingEstimator, X: Any, intercept: bool) -> Rows:
    """Those of checked training inputs, block by block."""
    whitening, parts = estimator.whitening_, []
    assert whitening is not None
    features = np.empty((len(X), len(whitening.factor)), order="F")  # as LAPACK takes them without a copy
    for rows, part, block in estimator.feature_blocks(X, stored=True):
        features[rows] = whitening.features(block)
        parts.append(_composition(estimator, part))
    columns, labels = _unpenalised(estimator, parts, len(X), intercept)
    return Rows(features, columns, labels)


def _composition(estimator: InducingEstimator, X: Any) -> Composition | None:
    return composition_of(network_of(estimator), X) if estimator.baseline is not None else None


def _unpenalised(
    estimator: InducingEstimator, found: list[Composition | None], n: int, intercept: bool
) -> tuple[Float[np.ndarray, "n c"], tuple[str, ...]]:
    """The unpenalised columns of runs of n inputs in all, and the names of those after the intercept."""
    if estimator.baseline == "composition" and None in found:
        raise ValueError(
            f'{type(estimator).__name__}: baseline="composition" is for networks that end in a sum over parts with names, such '
            'as AtomSum. Use baseline="auto" or None.'
        )
    known = [composition for composition in found if composition is not None]
    labels = tuple(dict.fromkeys(label for composition in known for label in composition.labels))
    counts = [counts_of(composition, labels, "") for composition in known if labels]
    return _columns(n, intercept, counts), labels


class InducingFit(NamedTuple):
    """The fit at one ridge, the weights of k(., z), the names of the columns after the intercept, and what was decomposed."""

    fit: FeatureFit
    dual_coef: Float[np.ndarray, "m k"]
    labels: tuple[str, ...]
    spectrum: FeatureSpectrum


def fit_inducing(
    estimator: InducingEstimator,
    X: Any,
    y: Float[np.ndarray, "n k"],
    intercept: bool,
    weights: Float[np.ndarray, " n"] | None = None,
) -> InducingFit:
    """The fit of checked inputs and weights, at the ridge given or the best of the path.

    Sets ``inducing_``, ``whitening_``, ``posterior_``, ``ridge_``, ``loo_error_``, ``ridge_path_`` and ``loo_path_``.
    """
    if takes_all(estimator, X):
        return _fit_all(estimator, X, y, intercept, weights)
    estimator.inducing_ = choose_inducing(estimator, X if weights is None else X[np.flatnonzero(weights)])
    estimator.whitening_ = Whitening.of(prior_of(estimator), type(estimator).__name__)
    rows = rows_of(estimator, X, intercept)
    give_back()
    scale = float(np.einsum("ij,ij->", rows.features, rows.features)) / len(X) or 1.0
    spectrum = FeatureSpectrum.of(rows.features, rows.columns, weights)
    fit = _solved(estimator, spectrum, y, scale)
    estimator.posterior_ = spectrum.posterior()
    return InducingFit(fit, estimator.whitening_.weights(fit.weights), rows.labels, spectrum)


def takes_all(estimator: InducingEstimator, X: Any) -> bool:
    """Whether all training inputs induce: if it is asked for, or without a number if kernels are inner products, which cost
    little, and the dense regression fits the memory."""
    if estimator.inducing is not None or estimator.store is not None:
        return isinstance(estimator.inducing, str)
    if BYTES * len(X) ** 2 > parse_memory(estimator.memory):
        return False
    net = network_of(estimator)
    return make_plan(net.layers, net.quadrature, net.rtol, X[:1], None).features is not None


def _fit_all(
    estimator: InducingEstimator,
    X: Any,
    y: Float[np.ndarray, "n k"],
    intercept: bool,
    weights: Float[np.ndarray, " n"] | None,
) -> InducingFit:
    """The dense regression. Sets what ``fit_inducing`` sets, ``whitening_`` to None: nothing is added to the kernel."""
    estimator.inducing_, estimator.whitening_ = X[:], None
    kernel = kernel_of_all(estimator)
    columns, labels = _unpenalised(estimator, [_composition(estimator, estimator.inducing_)], len(X), intercept)
    scale = float(np.mean(np.diag(kernel))) or 1.0
    spectrum = DenseSpectrum.of_kernel(kernel, columns, weights)
    fit = _solved(estimator, spectrum, y, scale)
    estimator.posterior_ = spectrum.dense_posterior()
    return InducingFit(fit, spectrum.roots[:, None] * fit.weights, labels, spectrum)


def kernel_of_all(estimator: InducingEstimator) -> Float[np.ndarray, "n n"]:
    """That of the inducing inputs."""
    options = {"memory": estimator.memory, "progress": bool(estimator.progress), "client": estimator.client}
    return precise_gram(network_of(estimator), estimator.inducing_, None, estimator.kernel, **options)


def _solved(
    estimator: InducingEstimator, spectrum: FeatureSpectrum, y: Float[np.ndarray, "n k"], scale: float
) -> FeatureFit:
    """The fit at the ridge given or the best of the path. Sets what is known of ridges."""
    ridge, path, errors = ridge_of(estimator, spectrum, y, scale)
    fit = spectrum.solve(y, ridge)
    estimator.ridge_, estimator.loo_error_ = ridge, error_of(fit.loo, spectrum.weights)
    estimator.ridge_path_, estimator.loo_path_ = path, errors
    return fit


def columns_of(estimator: InducingEstimator, X: Any, intercept: bool, labels: tuple[str, ...]) -> np.ndarray:
    """The unpenalised columns of a batch: a one, and how many parts an input has of each name."""
    found = composition_of(network_of(estimator), X) if labels else None
    counts = [] if found is None else [counts_of(found, labels, type(estimator).__name__)]
    return _columns(len(X), intercept, counts)


def _columns(n: int, intercept: bool, counts: list[np.ndarray]) -> Float[np.ndarray, "n c"]:
    """A one where there is an intercept, and the counts of runs of inputs, one after the other."""
    known = np.concatenate(counts) if counts else np.zeros((n, 0))
    return np.concatenate([np.ones((n, int(intercept))), known], axis=1)


def ridge_of(
    estimator: KernelEstimator, spectrum: FeatureSpectrum | BlockSpectrum, y: Float[np.ndarray, "n k"], scale: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """The ridge given or the best of the path, the ridges tried, ascending, and their leave-one-out errors.

    Of one row, or of rows that each determine a column alone, there are no errors: then the smallest.
    """
    where = type(estimator).__name__
    if estimator.ridge is not None:
        ridge = float(estimator.ridge)
        return ridge, np.array([ridge]), spectrum.path(y, np.array([ridge]))
    given = estimator.ridge_path
    path = RELATIVE_RIDGES * scale if given is None else check_path(given, where)
    path = path[path > 0]
    errors = spectrum.path(y, path)
    if np.isnan(errors).any():
        return float(path[0]), path, errors
    best = int(np.argmin(errors))
    beside = {0: 1, len(path) - 1: len(path) - 2}.get(best)
    rounding = len(y) * EPS * float(np.sqrt(np.mean(y**2)))
    if beside is not None and len(path) > 1 and errors[beside] > 1.001 * errors[best] + rounding:
        end = "smallest" if best == 0 else "largest"
        warn(
            f"{where}: the best ridge, {path[best]:.1e}, is the {end} of the path: give ridge_path {end[:-3]}er values.",
            RidgePathWarning,
        )
    return float(path[best]), path, errors
