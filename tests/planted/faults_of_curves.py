"""Faults in spectra of Gram matrices and in learning curves predicted from them."""

from fault import Fault

CURVES = (
    Fault(
        "noise-of-a-fit-forgotten",  # E_0 of the formula
        "so3ntk/learning/curves/theory.py",
        "return n / free * missed if free > 1e-12 * n else math.inf",
        "return missed if free > 1e-12 * n else math.inf",
        ("tests/learning/curves/test_theory.py",),
    ),
    Fault(
        "ridge-not-in-kappa",
        "so3ntk/learning/curves/theory.py",
        "return float(np.sum(values / (values + kappa))) + ridge / kappa - n",
        "return float(np.sum(values / (values + kappa))) + ridge / (n * kappa) - n",
        ("tests/learning/curves/test_theory.py",),
    ),
    Fault(
        "second-moment-of-learned-modes",  # the sum of g^2 where its derivative is wrong by a sign
        "so3ntk/learning/curves/resolvents.py",
        "return cls(len(sample), sample.rows, ridges, 1 / total, dof, dof + change, left[:, 0], left[:, 1])",
        "return cls(len(sample), sample.rows, ridges, 1 / total, dof, dof - change, left[:, 0], left[:, 1])",
        ("tests/learning/curves/test_samples.py",),
    ),
    Fault(
        "intercept-in-what-is-left-out",
        "so3ntk/learning/curves/samples.py",
        "y = self.y - mean_of(self.y) if self.intercept else self.y",
        "y = self.y - mean_of(self.y)",
        ("tests/learning/curves/test_samples.py",),
    ),
    Fault(
        "halves-without-the-limit",  # D of a sample for that of the population: seen where rows are of unequal size
        "so3ntk/learning/curves/population.py",
        "log_dof = 2 * log_dof - _at(levels[1], log_kappa)",
        "log_dof = log_dof + 0 * _at(levels[1], log_kappa)",
        ("tests/learning/curves/test_population.py",),
    ),
    Fault(
        "exponent-moved-the-wrong-way",
        "so3ntk/learning/curves/population.py",
        "change = -float(np.mean(below * residual)) / (float(np.mean(below**2)) + SHRINK**2)",
        "change = 5 * float(np.mean(below * residual)) / (float(np.mean(below**2)) + SHRINK**2)",
        ("tests/spectra/test_learning_curve.py",),
    ),
    Fault(
        "parts-do-not-correct",  # overfitting that the formula does not know
        "so3ntk/learning/curves/population.py",
        "return replace(found, rest=found._find_rest(levels))",
        "return replace(found, correction=np.zeros(len(BENDS)))",
        ("tests/spectra/test_learning_curve.py::test_overfitting_that_the_formula_does_not_know",),
    ),
    Fault(
        "components-counted-as-inputs",
        "so3ntk/learning/curves/population.py",
        "rows = inputs * self.components - self.columns",
        "rows = inputs - self.columns",
        ("tests/spectra/test_learning_curve.py",),
    ),
    Fault(
        "learning-time-without-outputs",
        "so3ntk/spectra/decomposition.py",
        "times[known] = self.outputs / (learning_rate * self.eigenvalues[known])",
        "times[known] = 1 / (learning_rate * self.eigenvalues[known])",
        ("tests/spectra/test_spectrum.py",),
    ),
    Fault(
        "eigenvalues-of-the-matrix",  # not over the rows: right for condition numbers and decays
        "so3ntk/spectra/decomposition.py",
        "np.asarray(sample.eigenvalues)[::-1] / sample.rows",
        "np.asarray(sample.eigenvalues)[::-1]",
        ("tests/spectra/test_spectrum.py",),
    ),
    Fault(
        "ridge-absolute-on-the-command-line",
        "so3ntk/cli/spectrum.py",
        "None if args.ridge is None else args.ridge * found.scale",
        "args.ridge",
        ("tests/cli/test_cli_spectrum.py",),
    ),
)
