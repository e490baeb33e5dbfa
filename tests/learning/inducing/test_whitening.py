"""What is white in the kernel's prior, and how much jitter that takes."""

import numpy as np
import pytest

from so3ntk.errors import NotPositiveDefiniteError
from so3ntk.learning.inducing.whitening import Whitening


def test_whitened_features_have_the_prior_kernel():
    rng = np.random.default_rng(2)
    basis = rng.normal(size=(12, 12))
    kernel = basis @ basis.T
    whitening = Whitening.of(kernel, "test", 1e-15)
    kernels = rng.normal(size=(5, 12))
    features = whitening.features(kernels)
    np.testing.assert_allclose(features @ features.T, kernels @ np.linalg.solve(kernel, kernels.T), rtol=1e-8)
    white = rng.normal(size=(12, 2))
    np.testing.assert_allclose(kernels @ whitening.weights(white), features @ white, rtol=1e-8)


def test_jitter_is_what_the_kernels_errors_ask_for():
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    of = lambda smallest: (vectors * np.array([smallest, 1e-4, 1e-2, 0.1, 1.0, 5.0])) @ vectors.T  # noqa: E731
    assert Whitening.of(of(1e-20), "test").jitter == 1e-6
    np.testing.assert_allclose(Whitening.of(of(-3e-5), "test").jitter, 1e-4)
    with pytest.raises(NotPositiveDefiniteError, match=r"InducingRegressor: .*k\(Z, Z\) run from -1.000e-02 to 5.0"):
        Whitening.of(of(-1e-2), "InducingRegressor")
