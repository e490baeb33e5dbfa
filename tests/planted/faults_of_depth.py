"""Faults of deep networks' fixed points and scales, of spectra by irreps, and of slopes in hyperparameters."""

from fault import Fault

TRAINABILITY = ("tests/spectra/test_trainability.py",)
IRREPS = ("tests/spectra/test_irrep_spectrum.py",)
SLOPES = ("tests/spectra/test_sensitivity.py",)

DEPTH: tuple[Fault, ...] = (
    Fault("linear-response-without-layers", "so3ntk/spectra/asymptotes.py",
          "w + m * response * z / slope", "w + m * response * z", TRAINABILITY),
    Fault("flow-without-its-derivative", "so3ntk/spectra/asymptotes.py",
          "off = off / (1 - a * decay * z) ** 2", "off = off / (1 - a * decay * z)", TRAINABILITY),
    Fault("bend-of-the-tangent-kernel-once", "so3ntk/spectra/asymptotes.py",
          "tangent.response_bend / 2 + a", "tangent.response_bend + a", TRAINABILITY),
    Fault("kink-with-the-exponent-of-a-smooth-one", "so3ntk/spectra/asymptotes.py",
          "-0.5 * depth * rate", "-depth * rate", TRAINABILITY),
    Fault("critical-kink-as-smooth", "so3ntk/spectra/asymptotes.py",
          "k = 3 if kinked else 2", "k = 2", TRAINABILITY),
    Fault("filter-twice", "so3ntk/spectra/block.py",
          "return value + self.multipliers[self.filters.index(filter)] * (field - value)",
          "return value + self.multipliers[self.filters.index(filter)] ** 2 * (field - value)", TRAINABILITY),
    Fault("tangent-slope-away-from-its-fixed-point", "so3ntk/spectra/block.py",
          "np.full(3, fixed)", "np.full(3, start)", TRAINABILITY),
    Fault("even-waves", "so3ntk/spectra/modes.py",
          "return np.array([along[a] * along[b] for a, b in labels])", "return np.array([along[a] * along[a] for a, b in labels])",
          TRAINABILITY),
    Fault("far-fixed-point", "so3ntk/spectra/fixed_points.py",
          "and np.all(change[1:5] < 0):", "and np.all(change[1:5] > 0):", TRAINABILITY),
    Fault("copies-not-counted", "so3ntk/spectra/irreps.py",
          'power[:, :, k] = kind.copies * np.einsum("lnaa->ln", blocks).real',
          'power[:, :, k] = np.einsum("lnaa->ln", blocks).real', IRREPS),
    Fault("parity-of-harmonics-for-both", "so3ntk/spectra/orbits.py",
          "kind.key.sign * proper", "(-1) ** kind.key.degree * proper", IRREPS),
    Fault("waves-turned-backwards", "so3ntk/spectra/orbits.py",
          "            a, b = -b, a\n", "            a, b = b, -a\n", IRREPS),
    Fault("rows-for-columns", "so3ntk/spectra/targets.py",
          '"km,jkn->jmn"', '"km,jnk->jnm"', IRREPS),
    Fault("slope-of-the-square", "so3ntk/spectra/hyperparameter_slopes.py",
          "0.5 * jnp.log(error)", "jnp.log(error)", SLOPES),
)  # fmt: skip
