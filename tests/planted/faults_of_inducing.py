"""Faults in the regression with inducing inputs."""

from fault import Fault

RIDGE, WHITENING = "so3ntk/learning/feature_ridge.py", "so3ntk/learning/inducing/whitening.py"
ESTIMATOR, SELECTION = "so3ntk/learning/inducing/estimator.py", "so3ntk/learning/inducing/selection.py"
VECTORS = ("tests/learning/inducing/test_tensors.py",)
TESTS = ("tests/learning/inducing", "tests/learning/test_feature_ridge.py")

INDUCING: tuple[Fault, ...] = (
    Fault("leave-one-out-without-columns", RIDGE,
          "free = self._outside + _weighted_squares(self.vectors, left)",
          "free = 1 - _weighted_squares(self.vectors, 1 - left)", TESTS),
    Fault("ridge-not-in-variance", RIDGE,
          "inside = along**2 @ (ridge / (self.singular**2 + ridge))", "inside = along**2 @ (1 / (self.singular**2 + ridge))",
          TESTS),
    Fault("columns-not-crossed", RIDGE,
          "return FeatureFit(weights, self.inverse @ y - self.crossed @ weights, loo, amplitude)",
          "return FeatureFit(weights, self.inverse @ y, loo, amplitude)", TESTS),
    Fault("whitening-not-transposed", WHITENING,
          "return scipy.linalg.solve_triangular(self.factor, white, lower=True, trans=1, check_finite=False)",
          "return scipy.linalg.solve_triangular(self.factor, white, lower=True, check_finite=False)", TESTS),
    Fault("jitter-of-the-largest-element", WHITENING,
          "scale = float(np.mean(np.diag(symmetric))) or 1.0", "scale = float(np.sum(np.diag(symmetric))) or 1.0", TESTS),
    Fault("a-block-twice", ESTIMATOR, "features[rows] = whitening.features(block)",
          "features[: len(block)] = whitening.features(block)", TESTS),
    Fault("nearest-in-place-of-farthest", SELECTION,
          "chosen.append(int(np.argmax(distance)))", "chosen.append(int(np.argmax(np.where(distance < 0, -np.inf, -distance))))",
          TESTS),
    Fault("shares-without-the-least", SELECTION,
          "chosen = np.minimum(counts, min(LEAST, total // len(counts)))", "chosen = np.zeros_like(counts)", TESTS),
    Fault("blocks-without-what-is-outside", "so3ntk/learning/block_ridge.py",
          "free = free + np.eye(self.components) - self._own(np.ones((len(left), 1)))", "free = free + np.eye(self.components)", VECTORS),
    Fault("components-left-out-alone", "so3ntk/learning/block_ridge.py",
          "found[:, some, a, b] = found[:, some, b, a] = ((blocks[some, a] * blocks[some, b]) @ weights).T",
          "found[:, some, a, b] = found[:, some, b, a] = (a == b) * ((blocks[some, a] * blocks[some, b]) @ weights).T", VECTORS),
    Fault("covariance-without-the-ridge", "so3ntk/learning/inducing/tensors.py",
          "known = self.posterior.singular**2 / (self.posterior.singular**2 + ridge)", "known = np.ones(len(self.posterior.singular))",
          VECTORS),
    Fault("trace-without-its-intercept", "so3ntk/learning/inducing/tensors.py",
          "np.ones((len(y), int(intercept)))", "np.zeros((len(y), int(intercept)))", VECTORS),
    Fault("directions-of-the-columns", RIDGE,
          "kept = min(int(np.count_nonzero(values > rounding)), most)", "kept = int(np.count_nonzero(values > max(n, r) * EPS * values[0]))",
          ("tests/learning/test_feature_ridge.py",)),
    Fault("weights-not-in-left-out-rows", RIDGE,
          "scale = (free * self.roots)[:, None]", "scale = free[:, None]", ("tests/learning/inducing/test_weights.py",)),
    Fault("weightless-rows-induce", ESTIMATOR,
          "X if weights is None else X[np.flatnonzero(weights)]", "X", ("tests/learning/inducing/test_weights.py",)),
    Fault("covariances-crossed-once", "so3ntk/learning/inducing/dense.py",
          "return prior - crossing - crossing.T +", "return prior - crossing +", ("tests/learning/inducing/test_weights.py",)),
)  # fmt: skip
