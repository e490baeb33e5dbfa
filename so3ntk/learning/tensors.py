"""Equivariant regression of vectors and symmetric tensors: one block kernel for each irrep of the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.engine.layers import Dense, GroupPool
from so3ntk.engine.layers.readout import Readout
from so3ntk.engine.network import Network
from so3ntk.errors import PrecisionError
from so3ntk.learning.block_ridge import as_matrix, posterior_covariance, solve_blocks
from so3ntk.learning.inducing.estimator import ChoosesParts, check_choice, check_ridges, choose_inducing, default_count
from so3ntk.learning.inducing.parts import blocks
from so3ntk.learning.inducing.tensors import BlockPosterior, fit_induced, induces_all
from so3ntk.learning.inputs import (
    RELATIVE_RIDGES,
    check_path,
    check_shared_parameters,
    is_precomputed,
    refuse_parts,
    scale_of,
)
from so3ntk.learning.ridge import RidgeFit, Spectrum, posterior_variance, rms, solve, solve_best, warn_if_flat
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.gram import precise_gram
from so3ntk.sphere.irreps import cartesian_from_real
from so3ntk.sphere.layers.irrep_pool import IrrepPool

#: The irreps of vectors (n, 3) and of symmetric tensors (n, 3, 3), by the number of axes.
DEGREES = {1: (1,), 2: (0, 2)}


class Part(NamedTuple):
    """One irrep of a fit: the spectrum of its Gram matrix, the chosen ridge, and the solution for it.

    spectrum: None where it was left out of a saved file; with inducing parts, the posterior of their functions.
    """

    spectrum: Spectrum | BlockPosterior | None
    ridge: float
    fit: RidgeFit


class TensorKernelRegressor(ChoosesParts):
    r"""Gaussian process and kernel ridge regression of vectors (n, 3) or symmetric tensors (n, 3, 3).

    Targets are split into irreps, vectors into l = 1, tensors into l = 0 (the trace) and l = 2, and for each

    .. math:: \hat y^l(x) = b\,\delta_{l0} + \sum_i K^l(x, x_i)\,\alpha_i, \qquad (K^l + \lambda_l I)\,\alpha = y^l - b

    with the blocks K^l of ``IrrepPool(l)``: predictions turn with their inputs, whatever the data.

    net: a ``Network`` with one readout, GroupPool or IrrepPool, which is replaced by the one of each l (biases of Dense
    layers after it stay for l = 0 only); an IrrepPool of the l that is needed keeps its parity, which is how axial
    vectors are learnt. "precomputed": X is then a mapping from l to K^l, as ``irrep_grams`` returns it.
    kernel: "ntk" or "nngp". ridge: lambda of all parts, absolute; None for the candidate with the smallest
    leave-one-molecule-out error of each part, which is exact and needs no refits. ridge_path: candidates in units of
    the mean of the diagonal of K^l; None for 45 values from 1e-10 to 10. fit_intercept: b, of the trace.
    memory, progress: as for ``gram``.
    inducing: "all", the training inputs as they are; else what spans the functions, as for ``InducingRegressor``: a number of parts,
    single atoms of molecules or whole inputs, each with 2l + 1 functions; a batch, all parts of which induce; None for "all" where kernels
    are inner products of features (``Products`` up to degree two) and 48 (3 N)^2 bytes (tensors: 48 (5 N)^2) fit ``memory``, and
    1000 (N / 1000)^(1/3) parts elsewhere. N molecules of A atoms and m parts then cost N A m pairs, and 8 m M^2 (3 N + 6 m) bytes for
    M = 2l + 1; X may be anything that gives batches for slices and index arrays, such as ``molecules.LazyEnvironments``.
    selection, random_state: which parts, by the invariant kernel of the same network, as for ``InducingRegressor``.

    After ``fit``: ``ridge_`` and ``loo_error_`` (root mean square per component of the irrep), by l; ``loo_residuals_``,
    in the shape of y, what each input misses when it is left out (of fixed inducing parts); ``parts_``; ``X_fit_`` unless
    "precomputed", or the inducing parts ``inducing_``.
    """

    def __init__(
        self,
        net: Network | str | None = None,
        kernel: str = "ntk",
        ridge: float | None = None,
        ridge_path: ArrayLike | None = None,
        fit_intercept: bool = True,
        memory: str | int = "2GiB",
        progress: bool = False,
        inducing: int | Any | None = "all",
        selection: str = "farthest",
        random_state: Any = 0,
    ):
        self.net = net
        self.kernel = kernel
        self.ridge = ridge
        self.ridge_path = ridge_path
        self.fit_intercept = fit_intercept
        self.memory = memory
        self.progress = progress
        self.inducing = inducing
        self.selection = selection
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> TensorKernelRegressor:
        """Fit to inputs X and targets y, (n, 3) or symmetric (n, 3, 3).

        Raises ValueError and TypeError for wrong inputs, NotPositiveDefiniteError if K + ridge I is not, PrecisionError
        for kernels that are not finite. Warns (RidgePathWarning) if the best ridge is at an end of the path.
        """
        _check_parameters(self)
        targets = check_tensors(y)
        degrees = DEGREES[targets.ndim - 1]
        for name in ("X_fit_", "inducing_"):
            vars(self).pop(name, None)
        if isinstance(self.net, Network) and not self._all_induce(X, degrees):
            return self._fit_induced(self.net, X, targets, degrees)
        kernels = self._kernels(X, None, degrees)
        if any(kernels[degree].shape[:2] != (len(targets),) * 2 for degree in degrees):
            shapes = {degree: kernels[degree].shape for degree in degrees}
            raise ValueError(f"TensorKernelRegressor: {len(targets)} targets, but kernels of shapes {shapes}.")
        self.keep({d: _fit_part(self, kernels[d], components(targets, d)) for d in degrees})
        if isinstance(self.net, Network):
            self.X_fit_ = X
        return self

    def _all_induce(self, X: Any, degrees: tuple[int, ...]) -> bool:
        refuse_parts(X, "TensorKernelRegressor")
        return induces_all(self, with_degree(self.net, degrees[-1]), X, 2 * degrees[-1] + 1)

    def _fit_induced(
        self, net: Network, X: Any, targets: Float[np.ndarray, "n ..."], degrees: tuple[int, ...]
    ) -> TensorKernelRegressor:
        if len(X) != len(targets):
            raise ValueError(f"TensorKernelRegressor: {len(targets)} targets, but {len(X)} inputs.")
        check_ridges(self)
        self.inducing_ = choose_inducing(self, X, with_degree(net, 0), max(1, default_count(len(X)) // 2))
        intercept = bool(self.fit_intercept)
        self.keep({d: Part(*fit_induced(self, with_degree(net, d), X, components(targets, d), intercept and d == 0))
                   for d in degrees})  # fmt: skip
        return self

    @overload
    def predict(
        self, X: Any, return_std: Literal[False] = False, diagonal: Mapping[int, ArrayLike] | None = None
    ) -> np.ndarray: ...
    @overload
    def predict(
        self, X: Any, return_std: Literal[True], diagonal: Mapping[int, ArrayLike] | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def predict(
        self, X: Any, return_std: bool, diagonal: Mapping[int, ArrayLike] | None = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: Any, return_std: bool = False, diagonal: Mapping[int, ArrayLike] | None = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The posterior mean at m inputs, (m, 3) or (m, 3, 3); with ``return_std`` also each entry's standard deviation.

        The deviation is that of the Gaussian process, scaled by the amplitude that maximises the marginal likelihood of
        each irrep, beside the intercept of the trace (NaN for one tensor, which it fits); the noise is not added.
        diagonal: a mapping from l to K^l(x, x), (m, M, M) or (m,) for l = 0; needed with "precomputed" and
        ``return_std``. Warns that deviations are zero where the targets were constant.
        """
        check_is_fitted(self)
        if not hasattr(self, "inducing_"):
            return self._predict(X, return_std, diagonal)
        refuse_parts(X, "TensorKernelRegressor")
        found = [self._predict(part, return_std, diagonal) for _, part in blocks(X)]
        if not return_std:
            return np.concatenate(found)
        mean, std = (np.concatenate(each) for each in zip(*found, strict=True))
        return mean, std

    def _predict(self, X: Any, return_std: bool, diagonal: Mapping[int, ArrayLike] | None) -> Any:
        degrees = tuple(self.parts_)
        kernels = self.kernels(X)
        means = {degree: _mean(kernels[degree], part) for degree, part in self.parts_.items()}
        if not return_std:
            return assemble(means)
        if any(part.spectrum is None for part in self.parts_.values()):
            raise ValueError(
                "TensorKernelRegressor.predict: return_std needs the eigenvectors of the kernels, which were left out of the "
                "saved file. Save the fitted model with spectrum=True."
            )
        warn_if_flat(np.concatenate([part.fit.amplitude for part in self.parts_.values()]), "TensorKernelRegressor")
        own = self._own_covariances(X, diagonal, {degree: mean.shape for degree, mean in means.items()})
        variance: np.ndarray | float = 0.0
        for degree, part in self.parts_.items():
            covariance = _covariance(kernels[degree], part, own[degree], bool(self.fit_intercept))
            change = change_of_basis(degree, len(degrees))
            variance = variance + np.einsum("am,tmn,an->ta", change, covariance, change)
        mean = assemble(means)
        return mean, np.sqrt(np.maximum(variance, 0)).reshape(mean.shape)

    def _own_covariances(
        self, X: Any, given: Mapping[int, ArrayLike] | None, shapes: Mapping[int, tuple[int, ...]]
    ) -> dict[int, np.ndarray]:
        """K^l(x, x) of the test inputs, given or computed."""
        where = "TensorKernelRegressor.predict"
        if given is None and isinstance(self.net, Network):
            given = {degree: kernel_diagonal(with_degree(self.net, degree), X, self.kernel) for degree in shapes}
        expected = {degree: (m,) if degree == 0 else (m, size, size) for degree, (m, size) in shapes.items()}
        remedy = "so3ntk.kernel_diagonal(so3ntk.learning.tensors.with_degree(net, l), x) gives it for a network."
        if given is None:
            raise ValueError(f'{where}: return_std with net="precomputed" needs diagonal={{l: K(x, x)}}. {remedy}')
        if not isinstance(given, Mapping) or not set(expected) <= set(given):
            raise ValueError(
                f"{where}: expected diagonal to be a mapping from l = {list(expected)} to K(x, x), got {given!r:.80}. {remedy}"
            )
        for degree in expected:
            refuse_masked(given[degree], f"{where}: the entries of diagonal[{degree}]")
        found = {degree: np.asarray(given[degree], np.float64) for degree in expected}
        if (shapes_given := {degree: values.shape for degree, values in found.items()}) != expected:
            raise ValueError(f"{where}: expected diagonal of the shapes {expected}, got {shapes_given}. {remedy}")
        return found

    def score(self, X: Any, y: ArrayLike) -> float:
        """1 - sum |y - prediction|^2 / sum |y - m|^2, with m the mean that rotations leave alone: 0, or the mean trace."""
        targets = check_tensors(y)
        invariant: np.ndarray | float = 0.0
        if targets.ndim == 3:
            invariant = np.trace(targets, axis1=1, axis2=2).mean() / 3 * np.eye(3)
        return float(1 - np.sum((targets - self.predict(X)) ** 2) / np.sum((targets - invariant) ** 2))

    def keep(self, parts: dict[int, Part]) -> None:
        """Set ``parts_`` and the attributes that follow from it."""
        self.parts_ = parts
        self.ridge_ = {degree: part.ridge for degree, part in parts.items()}
        self.loo_error_ = {degree: rms(part.fit.loo) for degree, part in parts.items()}
        self.loo_residuals_ = assemble({degree: part.fit.loo for degree, part in parts.items()})

    def kernels(self, X: Any) -> Mapping[int, np.ndarray]:
        """For each l the kernels K^l of inputs with the training inputs, as ``irrep_grams`` gives them."""
        check_is_fitted(self)
        return self._kernels(X, getattr(self, "inducing_", getattr(self, "X_fit_", None)), tuple(self.parts_))

    def _kernels(self, X: Any, X_fit: Any, degrees: tuple[int, ...]) -> Mapping[int, np.ndarray]:
        if isinstance(self.net, Network):
            refuse_parts(X, "TensorKernelRegressor")
            return irrep_grams(self.net, degrees, X, X_fit, self.kernel, self.memory, self.progress)
        if not isinstance(X, Mapping) or any(degree not in X for degree in degrees):
            raise TypeError(
                'TensorKernelRegressor: with net="precomputed" X is a mapping from l to kernels, '
                f"irrep_grams(net, {degrees}, x1, x2); got {type(X).__name__}."
            )
        for degree in degrees:
            refuse_masked(X[degree], f"TensorKernelRegressor: the kernels of l = {degree}")
        return {degree: np.asarray(X[degree], np.float64) for degree in degrees}


def irrep_grams(
    net: Network,
    degrees: tuple[int, ...],
    x1: Any,
    x2: Any = None,
    get: str = "ntk",
    memory: str | int = "2GiB",
    progress: bool = False,
) -> dict[int, np.ndarray]:
    """For each l the ``gram`` of the network with the readout of that l, in the basis of real harmonics, float64.

    (N1, N2, 2l + 1, 2l + 1), and (N1, N2) for l = 0. Rows and columns of x1 = the training inputs may be sliced.
    """
    found = {}
    for degree in degrees:
        found[degree] = precise_gram(with_degree(net, degree), x1, x2, get, memory=memory, progress=progress)
        if not np.isfinite(found[degree]).all():
            raise PrecisionError(
                f"TensorKernelRegressor: the kernel of l = {degree} has entries that are not finite. Rescale the inputs, or "
                "compute in double precision."
            )
    return found


def with_degree(net: Network, degree: int) -> Network:
    """The network with its readout replaced by that of degree l, real basis; for l > 0 without biases after it."""
    places = [i for i, layer in enumerate(net.layers) if isinstance(layer, Readout)]
    if len(places) != 1:
        raise ValueError(
            f"TensorKernelRegressor: expected a network with one readout, GroupPool() or IrrepPool(l), outside of branches; "
            f"found {len(places)}."
        )
    place = places[0]
    given = net.layers[place]
    if isinstance(given, IrrepPool) and given.l == degree:
        if degree == 0 and given.parity == -1:
            raise ValueError(
                "TensorKernelRegressor: the trace of a tensor is a scalar; IrrepPool(0, parity=-1) is not."
            )
        readout = IrrepPool(degree, given.parity) if degree else GroupPool()
    else:
        readout = IrrepPool(degree) if degree else GroupPool()
    tail = [
        dataclasses.replace(layer, b_std=None) if degree and isinstance(layer, Dense) else layer
        for layer in net.layers[place + 1 :]
    ]
    return dataclasses.replace(net, layers=(*net.layers[:place], readout, *tail))


def check_tensors(y: ArrayLike) -> Float[np.ndarray, "n ..."]:
    """Finite targets (n, 3), or (n, 3, 3) symmetric to 1e-6 of the largest entry, in float64; else ValueError."""
    refuse_masked(y, "TensorKernelRegressor: the targets y")
    values = np.asarray(y, np.float64)
    if values.ndim not in (2, 3) or values.shape[1:] not in ((3,), (3, 3)) or len(values) == 0:
        raise ValueError(
            f"TensorKernelRegressor: expected vectors y (n, 3) or symmetric tensors (n, 3, 3), got {values.shape}. For "
            "scalar targets use KernelRegressor."
        )
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
        raise ValueError(f"TensorKernelRegressor: y holds NaN or infinity, first for input {first}.")
    if values.ndim == 3:
        skew = np.abs(values - values.transpose(0, 2, 1)).max(axis=(1, 2))
        if skew.max() > 1e-6 * np.abs(values).max():
            raise ValueError(
                f"TensorKernelRegressor: the tensor of input {int(skew.argmax())} is not symmetric (by {skew.max():.1e}). "
                "Antisymmetric parts are axial vectors (n, 3): fit these with Lift(group='O3') and IrrepPool(1, parity=1)."
            )
    return values


def change_of_basis(degree: int, parts: int) -> Float[np.ndarray, "a m"]:
    """The isometry from the components of an irrep to the entries of a vector (one part) or of a tensor (two)."""
    if parts == 2 and degree == 0:
        return np.eye(3).reshape(9, 1) / 3**0.5
    return cartesian_from_real(degree)


def components(targets: Float[np.ndarray, "n ..."], degree: int) -> Float[np.ndarray, "n m"]:
    """The components of one irrep."""
    return targets.reshape(len(targets), -1) @ change_of_basis(degree, targets.ndim - 1)


def assemble(parts: Mapping[int, Float[np.ndarray, "n m"]]) -> Float[np.ndarray, "n ..."]:
    """Vectors or tensors from the components of their irreps."""
    flat: Any = sum(values @ change_of_basis(degree, len(parts)).T for degree, values in parts.items())
    return flat if len(parts) == 1 else flat.reshape(-1, 3, 3)


def _fit_part(estimator: TensorKernelRegressor, kernel: np.ndarray, y: Float[np.ndarray, "n m"]) -> Part:
    where, scalar = "TensorKernelRegressor", kernel.ndim == 2
    matrix = kernel if scalar else as_matrix(kernel)
    spectrum = Spectrum.of(matrix, scalar and bool(estimator.fit_intercept))
    relative = RELATIVE_RIDGES if estimator.ridge_path is None else check_path(estimator.ridge_path, where)
    path = relative * scale_of(np.diag(matrix))
    found = solve_best(spectrum, y, estimator.ridge, path, where, solve if scalar else solve_blocks)
    return Part(spectrum, found.ridge, found.solution)


def _mean(kernel: np.ndarray, part: Part) -> Float[np.ndarray, "t m"]:
    if kernel.ndim == 2:
        return kernel @ part.fit.dual_coef + part.fit.intercept
    return np.einsum("tnab,nb->ta", kernel, part.fit.dual_coef, optimize=True)


def _covariance(kernel: np.ndarray, part: Part, prior: np.ndarray, intercept: bool) -> Float[np.ndarray, "t m m"]:
    assert part.spectrum is not None, "predict has checked"
    if isinstance(part.spectrum, BlockPosterior):
        covariance = part.spectrum.covariance(kernel, prior, part.ridge, intercept)
    elif kernel.ndim == 2:
        covariance = posterior_variance(part.spectrum, part.ridge, kernel, prior)[:, None, None]
    else:
        covariance = posterior_covariance(part.spectrum, part.ridge, kernel, prior)
    return covariance * float(part.fit.amplitude[0]) ** 2


def _check_parameters(estimator: TensorKernelRegressor) -> None:
    if not isinstance(estimator.net, Network) and not is_precomputed(estimator.net):
        raise TypeError(
            'TensorKernelRegressor: expected net to be a Network (so3ntk.serial(...)) or "precomputed", got '
            f"{estimator.net!r}."
        )
    check_shared_parameters(estimator)
    check_choice(estimator)
    if is_precomputed(estimator.net) and not (isinstance(estimator.inducing, str) or estimator.inducing is None):
        raise ValueError(
            'TensorKernelRegressor: net="precomputed" has no parts that could induce. Give the network itself, or leave '
            f"inducing out; got {estimator.inducing!r:.80}."
        )
