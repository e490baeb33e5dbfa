"""Faults in kernels that are inner products, and in the regression that they make cheap."""

from fault import Fault

MAPS, TILES = "so3ntk/engine/evaluation/moments.py", "so3ntk/engine/evaluation/tiles.py"
SPHERE, DENSE = "so3ntk/sphere/global_support.py", "so3ntk/learning/inducing/dense.py"
VALUES, REGRESSION = ("tests/engine/test_moments.py",), ("tests/learning/inducing/test_dense.py",)

MOMENTS = (
    Fault("power-spectra-without-2l-plus-1", SPHERE, "twice / np.sqrt(2 * degree + 1), f.dtype", "twice, f.dtype", VALUES),
    Fault("pairs-of-channels-once", SPHERE, "np.where(first == second, 1, np.sqrt(2))", "np.ones(len(first))", VALUES),
    Fault("constant-once-for-all-pairs", MAPS, "kernel = p0 * pairs + p1 * means", "kernel = p0 + p1 * means", VALUES),
    Fault(
        "features-of-variances",  # a polynomial whose coefficients differ from pair to pair
        MAPS, "if not np.array_equal(first, second):", "if False:", VALUES,
    ),
    Fault("padding-counted", MAPS, "jnp.where(held.reshape(-1, *(1,) * (a.ndim - 1)), a, 0)", "a", VALUES),
    Fault("diagonal-tile-twice", TILES, "block = block / 2 if self.on_diagonal else block", "block = 1.0 * block", VALUES),
    Fault("products-in-single-precision", MAPS, "left = a.astype(np.float64, copy=False)", "left = a.astype(np.float32)", VALUES),
    Fault("columns-cross-once", DENSE, "prior - 2 * crossing + outside - known", "prior - crossing + outside - known", REGRESSION),
    Fault("columns-without-the-ridge", DENSE, "self.both + ridge * self.inverse @ self.inverse.T", "self.both", REGRESSION),
    Fault("span-of-columns-kept", DENSE, "kept = len(values) - basis.shape[1]", "kept = len(values)", REGRESSION),
    Fault("budget-without-features", "so3ntk/engine/plan.py",
          "return (n + m) * self.features.bytes_per_input(jnp.dtype(self.dtype).itemsize) + n", "return n", VALUES),
)  # fmt: skip
