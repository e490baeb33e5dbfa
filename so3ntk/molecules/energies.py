"""The documented network for molecular energies, and the regression that compares kernels at growing training sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from sklearn.base import clone

from so3ntk.engine.activations import Products
from so3ntk.engine.layers import Dense, GroupPool, Layer
from so3ntk.engine.network import Network, serial
from so3ntk.molecules.atom_sum import AtomSum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.molecules.radial import Shells
from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.layers.lift import Lift

if TYPE_CHECKING:
    from ase import Atoms

#: The environments for energies: ``environments(atoms, **ENERGY_ENVIRONMENTS)``.
ENERGY_ENVIRONMENTS: dict[str, Any] = {"radial": Shells(), "bandlimit": 4}
#: The nonlinearity for energies: squares of the kernel, which hold all terms of up to three bodies.
ENERGY_COEFFICIENTS = (0.0, 0.0, 1.0)


def energy_network(
    depth: int = 1, activation: Layer | None = None, b_std: float | None = 1.3, **options: Any
) -> Network:
    """The SO(3) network for energies: Lift, depth nonlinearities with GroupConv between, GroupPool, Dense, AtomSum.

    activation: ``Products(ENERGY_COEFFICIENTS)`` by default, whose rotation grid is exact and small; b_std: of the biases of Lift, on
    the scale of ``ENERGY_ENVIRONMENTS``, which mix terms of fewer bodies in; options (quadrature, rtol) go to ``serial``. Atoms of
    one element share weights. The defaults are the best of those tried by leave-one-out errors on QM9: see benchmarks/RESULTS.md.
    """
    _check_depth(depth)
    activation = Products(ENERGY_COEFFICIENTS) if activation is None else activation
    hidden = [layer for _ in range(depth - 1) for layer in (activation, GroupConv())]
    return serial(Lift(b_std=b_std), *hidden, activation, GroupPool(), Dense(), AtomSum(match_species=True), **options)


def mlp_network(depth: int = 1, activation: Layer | None = None, b_std: float | None = 1.3) -> Network:
    """The same network without symmetry: the coefficients of an environment into a fully connected network."""
    _check_depth(depth)
    activation = Products(ENERGY_COEFFICIENTS) if activation is None else activation
    hidden = [layer for _ in range(depth - 1) for layer in (activation, Dense())]
    return serial(Flatten(), Dense(b_std=b_std), *hidden, activation, Dense(), AtomSum(match_species=True))


@dataclass(frozen=True)
class CurvePoint:
    """Errors on the test molecules of one method trained on the first ``size`` molecules, in the targets' unit.

    loo: the root mean square leave-one-out error of the training molecules, NaN for composition alone. seconds: of fit and
    prediction. draw: of several draws of molecules, which.
    """

    method: str
    size: int
    mae: float
    rmse: float
    ridge: float
    loo: float
    seconds: float
    draw: int = 0


def learning_curve(
    models: Mapping[str, Any], x: Any, atoms: Sequence[Atoms], y: Float[np.ndarray, " n"],
    sizes: Sequence[int], test: int, report: Callable[[CurvePoint], None] = lambda point: None, draw: int = 0,
    inspect: Callable[[CurvePoint, Any], None] = lambda point, model: None,
) -> list[CurvePoint]:  # fmt: skip
    """Train on ``size`` molecules, test on the last ``test``, for composition alone and for each model.

    The training molecules are the first ones, but for a few moved to the front so that every training set holds all
    elements: the contribution of an element that no training molecule has is unknown.

    models: estimators by name, such as ``InducingRegressor(energy_network())``, of which a copy is fitted to the inputs x of each
    training set, with at most all of its atoms inducing; composition is in their fit. inspect: called with
    each point and the model it is of. ValueError if a training size and the test set overlap, or there is none.
    """
    n = len(y)
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k > 0 for k in (*sizes, test))
    if not len(sizes) or not whole:
        raise ValueError(
            f"learning_curve: expected sizes and test to be numbers of molecules, at least 1, got {sizes!r} and {test!r}."
        )
    if max(sizes) + test > n:
        raise ValueError(
            f"learning_curve: {max(sizes)} training and {test} test molecules need {max(sizes) + test}, got {n}."
        )
    order, test_rows = covering_order(atoms, n - test), np.arange(n - test, n)
    points = []

    def add(
        method: str, size: int, predicted: np.ndarray, begun: float, ridge: float = 0.0, loo: float = np.nan
    ) -> None:
        error, seconds = predicted - y[test_rows], time.perf_counter() - begun
        mae, rmse = float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))
        points.append(CurvePoint(method, size, mae, rmse, ridge, loo, seconds, draw))
        report(points[-1])

    for size in sizes:
        rows, begun = order[:size], time.perf_counter()
        baseline = CompositionBaseline().fit([atoms[int(i)] for i in rows], y[rows])
        add("composition", size, baseline.predict([atoms[int(i)] for i in test_rows]), begun)
        for method, model in models.items():
            begun = time.perf_counter()
            fitted = _fitting(model, sum(len(atoms[int(i)]) for i in rows)).fit(x[rows], y[rows])
            add(method, size, fitted.predict(x[test_rows]), begun, float(fitted.ridge_), float(fitted.loo_error_))
            inspect(points[-1], fitted)
    return points


def covering_order(atoms: Sequence[Atoms], train: int) -> np.ndarray:
    """The indices 0 .. train - 1, the first molecule of each element moved to the front, the rest in order."""
    first: dict[int, int] = {}
    for index in range(train):
        for number in atoms[index].numbers.tolist():
            first.setdefault(number, index)
    front = sorted(set(first.values()))
    return np.array(front + sorted(set(range(train)) - set(front)), int)


def _fitting(model: Any, atoms: int) -> Any:
    """A copy, whose number of inducing atoms is no more than there are."""
    copy: Any = clone(model)
    count = model.get_params(deep=False).get("inducing")
    return copy.set_params(inducing=min(count, atoms)) if isinstance(count, int) else copy


def _check_depth(depth: int) -> None:
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth: expected at least one nonlinearity, got {depth!r}.")
