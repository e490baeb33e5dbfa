"""The learning curve: every training set knows every element."""

import numpy as np
import pytest

ase = pytest.importorskip("ase")

from so3ntk.molecules.energies import covering_order, learning_curve  # noqa: E402


def molecules():
    formulas = ["H2", "CH4", "H2O", "CH4", "H2O", "CHF3", "CH4", "CHF3"]
    return [ase.Atoms(formula, positions=np.arange(3 * len(ase.Atoms(formula))).reshape(-1, 3)) for formula in formulas]


def test_the_first_molecule_of_each_element_comes_first():
    np.testing.assert_array_equal(covering_order(molecules(), 6), [0, 1, 2, 5, 3, 4])


def test_a_rare_element_of_the_test_set_is_in_every_training_set():
    atoms = molecules()
    counts = np.array([[np.count_nonzero(a.numbers == z) for z in (1, 6, 8, 9)] for a in atoms])
    energies = counts @ np.array([-0.5, -38.0, -75.0, -99.7])  # composition alone explains these
    points = learning_curve({}, atoms, energies, [4, 6], test=2)
    assert [point.size for point in points] == [4, 6]
    assert max(point.mae for point in points) < 1e4 * np.finfo(float).eps * np.abs(energies).max()


def test_the_baseline_has_not_seen_the_test_set():
    """Energies of composition alone, but for the test molecules, which are off by ten: so are the predictions."""
    atoms = molecules()
    energies = np.array([np.sum(a.numbers, dtype=float) for a in atoms])
    energies[-2:] += 10
    for point in learning_curve({}, atoms, energies, [4, 6], test=2):
        assert point.mae == pytest.approx(10, rel=1e-9)


def test_more_molecules_than_there_are():
    with pytest.raises(ValueError, match="need 9, got 8"):
        learning_curve({}, molecules(), np.zeros(8), [7], test=2)


@pytest.mark.parametrize(("sizes", "test"), [([], 2), ([4], 0), ([0, 4], 2), ([4.0], 2), ([True], 2)])
def test_sizes_that_are_no_numbers_of_molecules(sizes, test):
    with pytest.raises(
        ValueError, match="learning_curve: expected sizes and test to be numbers of molecules, at least 1"
    ):
        learning_curve({}, molecules(), np.zeros(8), sizes, test=test)
