"""Faults in kernels that are inner products, and in the regression that they make cheap."""

from fault import Fault

MAPS, TILES = "so3ntk/engine/evaluation/moments.py", "so3ntk/engine/evaluation/tiles.py"
COUPLING = "so3ntk/sphere/coupling.py"
SPHERE, DENSE = "so3ntk/sphere/global_support.py", "so3ntk/learning/inducing/dense.py"
VALUES, REGRESSION = ("tests/engine/test_moments.py",), ("tests/learning/inducing/test_dense.py",)

MOMENTS = (
    Fault("power-spectra-without-2l-plus-1", SPHERE, "twice / np.sqrt(2 * degree + 1), f.dtype", "twice, f.dtype", VALUES),
    Fault("pairs-of-channels-once", SPHERE, "np.where(first == second, 1, np.sqrt(2))", "np.ones(len(first))", VALUES),
    Fault("constant-in-every-irrep", MAPS, "if self.irrep is None or self.irrep.is_trivial:", "if True:", VALUES),
    Fault("blocks-not-by-components", MAPS, "self.components).transpose(0, 2, 1, 3)", "self.components).transpose(0, 2, 3, 1)", VALUES),
    Fault("both-parities", "so3ntk/sphere/o3.py", "coupled_moments(f, irrep.degree, irrep.sign)",
          "coupled_moments(f, irrep.degree, None)", VALUES),
    Fault("degrees-exchanged-once", COUPLING, "* np.sqrt(2).astype(signals.dtype))", "* 1)", VALUES),
    Fault("imaginary-couplings-left-out", COUPLING, "tensor.imag if (degree + first + second) % 2 else tensor.real", "tensor.real",
          ("tests/sphere/test_coupling.py",)),
    Fault("constant-once-for-all-pairs", MAPS, "kernel = p0 * pairs.reshape(", "kernel = p0 * np.ones_like(pairs).reshape(", VALUES),
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
