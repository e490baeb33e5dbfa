"""Faults in energies, forces and stresses."""

from fault import Fault

FORCES = "so3ntk/molecules/forces/"
TESTS = ("tests/molecules/test_force_inducing.py",)

FORCE_FAULTS: tuple[Fault, ...] = (
    Fault("strains-sheared-twice", FORCES + "displacements.py", "from_voigt(unit) / (1 if place < 3 else 2)", "from_voigt(unit)",
          ("tests/molecules/test_forces.py::test_tangents_are_the_derivatives_of_the_coefficients", *TESTS)),
    Fault("mirror-images-move-as-themselves", FORCES + "pair_derivatives.py", "(mirrored(b), flipped)", "(mirrored(b), db)",
          ("tests/molecules/test_forces.py::test_closed_form_equals_automatic_differentiation",)),
    Fault("stress-with-the-sign-of-the-virial", FORCES + "regressor.py", "sign * from_voigt(own) / frame.get_volume()",
          "-sign * from_voigt(own) / frame.get_volume()", TESTS),
    Fault("stresses-not-times-the-volume", FORCES + "known.py", "-frame.get_volume() * voigt(stress)", "-voigt(stress)", TESTS),
    Fault("derivatives-with-the-sign-of-values", FORCES + "moments.py", "np.subtract.at(total, n + owner, slopes)",
          "np.add.at(total, n + owner, slopes)", (*TESTS, "tests/molecules/test_force_moments.py")),
    Fault("functions-not-in-units-of-noise", FORCES + "inducing.py",
          "factor = np.tril(columns[kind][pick]) / scale[kind][pick][:, None]", "factor = np.tril(columns[kind][pick])", TESTS),
    Fault("pivots-not-taken-out", FORCES + "inducing.py", "columns[kind] @ columns[kind][new].T", "0 * (columns[kind] @ columns[kind][new].T)",
          TESTS),
    Fault("triangle-without-the-prior", FORCES + "inducing.py",
          "self.factor[np.arange(functions), np.arange(functions)] = 1.0", "self.factor[np.arange(functions), np.arange(functions)] = 1e-4",
          TESTS),
    Fault("variance-without-what-is-outside", FORCES + "inducing.py", "return outside + np.einsum", "return np.einsum", TESTS),
    Fault("structures-without-forces-have-forces", FORCES + "known.py", "np.full(3 * len(frame), forces is not None)",
          "np.full(3 * len(frame), True)", TESTS),
    Fault("warned-at-every-step", FORCES + "calculator.py", "            self.warned = True\n", "",
          ("tests/molecules/test_calculator.py::test_a_warning_of_what_is_unlike_the_training_set",)),
)  # fmt: skip
