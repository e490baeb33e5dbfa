"""The documented network for molecular energies, and the regression that compares kernels at growing training sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from so3ntk.engine.activations import Activation, Relu
from so3ntk.engine.layers import Dense, GroupPool
from so3ntk.engine.network import Network, serial
from so3ntk.learning.regressor import KernelRegressor
from so3ntk.matrices.gram import gram
from so3ntk.molecules.atom_sum import AtomSum
from so3ntk.molecules.baseline import CompositionBaseline
from so3ntk.sphere.layers.flatten import Flatten
from so3ntk.sphere.layers.group_conv import GroupConv
from so3ntk.sphere.layers.lift import Lift

if TYPE_CHECKING:
    from ase import Atoms

#: The environments for energies: ``environments(atoms, **ENERGY_ENVIRONMENTS)``.
ENERGY_ENVIRONMENTS = {"powers": (1.0, 2.0, 4.0, 6.0), "bandlimit": 4, "length": 1.6}


def energy_network(
    depth: int = 1, activation: Activation | None = None, b_std: float | None = 3.0, **options: Any
) -> Network:
    """The SO(3) network for energies: Lift, depth nonlinearities with GroupConv between, GroupPool, Dense, AtomSum.

    activation: Relu() by default; b_std: of the biases of Lift, on the scale of ``ENERGY_ENVIRONMENTS``; options
    (quadrature, rtol) go to ``serial``, with rtol 1e-5 by default: on coarser grids the regression is less accurate.
    Atoms of one element share weights. The defaults are the best of those tried on QM9 with 200 training molecules:
    see benchmarks/RESULTS.md.
    """
    _check_depth(depth)
    activation = Relu() if activation is None else activation
    hidden = [layer for _ in range(depth - 1) for layer in (activation, GroupConv())]
    last = (GroupPool(), Dense(), AtomSum(match_species=True))
    return serial(Lift(b_std=b_std), *hidden, activation, *last, **{"rtol": 1e-5, **options})


def mlp_network(depth: int = 1, activation: Activation | None = None, b_std: float | None = 3.0) -> Network:
    """The same network without symmetry: the coefficients of an environment into a fully connected network."""
    _check_depth(depth)
    activation = Relu() if activation is None else activation
    hidden = [layer for _ in range(depth - 1) for layer in (activation, Dense())]
    return serial(Flatten(), Dense(b_std=b_std), *hidden, activation, Dense(), AtomSum(match_species=True))


@dataclass(frozen=True)
class CurvePoint:
    """Errors on the test molecules of one method trained on the first ``size`` molecules, in the targets' unit."""

    method: str
    size: int
    mae: float
    rmse: float
    ridge: float


def learning_curve(
    kernels: dict[str, Float[np.ndarray, "n n"]], atoms: Sequence[Atoms], y: Float[np.ndarray, " n"],
    sizes: Sequence[int], test: int, report: Callable[[CurvePoint], None] = lambda point: None,
) -> list[CurvePoint]:  # fmt: skip
    """Train on ``size`` molecules, test on the last ``test``, for composition alone and for each kernel.

    The training molecules are the first ones, but for a few moved to the front so that every training set holds all
    elements: the contribution of an element that no training molecule has is unknown.

    kernels: Gram matrices of all n molecules. Each size fits its own composition baseline, and its ridge by
    leave-one-out on the residuals. ValueError if a training size and the test set overlap, or there is none.
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

    def add(method: str, size: int, error: np.ndarray, ridge: float):
        point = CurvePoint(method, size, float(np.abs(error).mean()), float(np.sqrt((error**2).mean())), ridge)
        points.append(point)
        report(point)

    for size in sizes:
        rows = order[:size]
        used = [*rows.tolist(), *test_rows.tolist()]
        baseline = CompositionBaseline().fit([atoms[i] for i in used[:size]], y[rows])
        residual = np.zeros(n)
        residual[used] = y[used] - baseline.predict([atoms[i] for i in used])
        add("composition", size, residual[test_rows], 0.0)
        for method, kernel in kernels.items():
            model = KernelRegressor(net="precomputed").fit(kernel[np.ix_(rows, rows)], residual[rows])
            predicted = model.predict(kernel[np.ix_(test_rows, rows)])
            add(method, size, predicted - residual[test_rows], float(model.ridge_))
    return points


def covering_order(atoms: Sequence[Atoms], train: int) -> np.ndarray:
    """The indices 0 .. train - 1, the first molecule of each element moved to the front, the rest in order."""
    first: dict[int, int] = {}
    for index in range(train):
        for number in atoms[index].numbers.tolist():
            first.setdefault(number, index)
    front = sorted(set(first.values()))
    return np.array(front + sorted(set(range(train)) - set(front)), int)


def molecular_kernels(
    networks: dict[str, Network], x: Any, kernel: str = "ntk", progress: bool = True
) -> dict[str, Float[np.ndarray, "n n"]]:
    """The Gram matrix of all molecules for each named network."""
    return {name: gram(net, x, get=kernel, progress=progress) for name, net in networks.items()}


def _check_depth(depth: int) -> None:
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth: expected at least one nonlinearity, got {depth!r}.")
