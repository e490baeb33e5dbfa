"""Spectra of what there is: Gram matrices in memory or stored, kernels of vectors, features of inducing inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.errors import PrecisionError
from so3ntk.learning.block_ridge import as_matrix
from so3ntk.learning.curves.curve import check_inputs_count, check_sample
from so3ntk.learning.curves.samples import BlockSample, FeatureSample, KernelSample
from so3ntk.learning.regressor import check_targets
from so3ntk.matrices.kernel_matrix import MatrixLike, kernel_matrix
from so3ntk.spectra.decomposition import GramSpectrum


def spectrum(k: MatrixLike, y: ArrayLike | None = None) -> GramSpectrum:
    """The spectrum of a Gram matrix, in memory or stored, against targets.

    k: (n, n), anything with ``shape``, ``dtype`` and slices, as from ``gram`` or ``open_gram``; or blocks (n, n, M, M), as from ``irrep_grams``,
    for vectors and tensors. y: (n,) or (n, k); for blocks (n, M), in the blocks' own basis (of ``irrep_grams`` with l = 1 that is y, z, x); None for the eigenvalues alone. In memory: 24 n^2 bytes, for blocks of the matrix
    (n M, n M). Decomposed in float64.

    Raises ValueError for fewer than ten samples, targets that are constant or not as many, matrices that are not square or not symmetric;
    PrecisionError for NaN and infinity, naming the pair. Negative eigenvalues are stated (``statement``), not clipped.
    """
    where = "spectrum"
    shape = tuple(np.shape(k))
    if len(shape) == 4:
        return _of_blocks(k, y, where)
    if len(shape) == 2 and shape[0] != shape[1]:
        raise ValueError(
            f"{where}: expected a square kernel (n, n), got {shape}. For features of n inputs, as those of inducing ones, call "
            "feature_spectrum(features, y)."
        )
    matrix = kernel_matrix(k, where)
    n = matrix.shape[0]
    check_inputs_count(n, where)
    targets = _targets(y, n, where)
    sample = KernelSample(matrix.whole(where), targets)
    return GramSpectrum(sample, _precision(getattr(k, "dtype", np.float64)), y is not None, targets.shape[1], where)


def feature_spectrum(features: ArrayLike, y: ArrayLike | None = None) -> GramSpectrum:
    """The spectrum of the kernel F F^T of features F (n, m), by singular values, which keep twice the digits of F F^T.

    With inducing inputs z those are F = k(x, Z) K_zz^{-1/2}: ``model.whitening_.features(model.features(x))`` of a fitted ``InducingRegressor``. Arguments,
    errors and result as ``spectrum``; eigenvalues beyond m are zero, and what the targets have outside of all features is the power of the last.
    """
    where = "feature_spectrum"
    refuse_masked(features, f"{where}: the features")
    values = np.asarray(features)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        raise ValueError(
            f"{where}: expected features (n, m) of real numbers, got {values.dtype} of shape {values.shape}."
        )
    if not np.isfinite(values).all():
        i, j = np.argwhere(~np.isfinite(values))[0]
        raise PrecisionError(
            f"{where}: the features hold NaN or infinity, first feature {j} of input {i}: {values[i, j]}."
        )
    check_inputs_count(len(values), where)
    targets = _targets(y, len(values), where)
    sample = FeatureSample(np.array(values, np.float64), np.zeros((len(values), 0)), targets)
    return GramSpectrum(sample, _precision(values.dtype), y is not None, targets.shape[1], where)


def _of_blocks(k: Any, y: ArrayLike | None, where: str) -> GramSpectrum:
    """Of the matrix (n M, n M) that blocks make."""
    blocks = np.asarray(k)
    n, other, size, columns = blocks.shape
    if n != other or size != columns:
        raise ValueError(f"{where}: expected blocks (n, n, M, M) of one batch with itself, got {blocks.shape}.")
    check_inputs_count(n, where)
    matrix = kernel_matrix(as_matrix(blocks), where).whole(where)
    targets = np.zeros((n, size)) if y is None else _targets(y, n, where)
    if targets.shape != (n, size):
        raise ValueError(
            f"{where}: expected targets ({n}, {size}), {size} components for each input, got {targets.shape}."
        )
    return GramSpectrum(BlockSample(matrix, targets), _precision(blocks.dtype), y is not None, 1, where)


def _targets(y: ArrayLike | None, n: int, where: str) -> Float[np.ndarray, "n k"]:
    """Checked targets (n, k); zeros (n, 1) for none."""
    if y is None:
        return np.zeros((n, 1))
    given = np.asarray(y)
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(given))[0])
        raise ValueError(
            f"{where}: expected finite targets, but y{list(first)} is {given[first]} (NaN or infinity). Mend or drop such inputs."
        )
    targets = check_targets(y, n, where).reshape(n, -1)
    check_sample(targets, where)
    return targets


def _precision(dtype: Any) -> np.dtype:
    return np.dtype(dtype) if np.dtype(dtype).kind == "f" else np.dtype(np.float64)
