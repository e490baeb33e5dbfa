"""The learning curve: every training set knows every element."""

import numpy as np
import pytest

ase = pytest.importorskip("ase")

from so3ntk import InducingRegressor  # noqa: E402
from so3ntk.molecules import environments  # noqa: E402
from so3ntk.molecules.energies import (  # noqa: E402
    ENERGY_ENVIRONMENTS,
    covering_order,
    energy_network,
    learning_curve,
    mlp_network,
)


def molecules():
    formulas = ["H2", "CH4", "H2O", "CH4", "H2O", "CHF3", "CH4", "CHF3"]
    return [ase.Atoms(formula, positions=np.arange(3 * len(ase.Atoms(formula))).reshape(-1, 3)) for formula in formulas]


def test_the_first_molecule_of_each_element_comes_first():
    np.testing.assert_array_equal(covering_order(molecules(), 6), [0, 1, 2, 5, 3, 4])


def test_a_rare_element_of_the_test_set_is_in_every_training_set():
    atoms = molecules()
    counts = np.array([[np.count_nonzero(a.numbers == z) for z in (1, 6, 8, 9)] for a in atoms])
    energies = counts @ np.array([-0.5, -38.0, -75.0, -99.7])  # composition alone explains these
    points = learning_curve({}, None, atoms, energies, [4, 6], test=2)
    assert [point.size for point in points] == [4, 6]
    assert max(point.mae for point in points) < 1e4 * np.finfo(float).eps * np.abs(energies).max()


def test_the_baseline_has_not_seen_the_test_set():
    """Energies of composition alone, but for the test molecules, which are off by ten: so are the predictions."""
    atoms = molecules()
    energies = np.array([np.sum(a.numbers, dtype=float) for a in atoms])
    energies[-2:] += 10
    for point in learning_curve({}, None, atoms, energies, [4, 6], test=2):
        assert point.mae == pytest.approx(10, rel=1e-9)


def test_more_molecules_than_there_are():
    with pytest.raises(ValueError, match="need 9, got 8"):
        learning_curve({}, None, molecules(), np.zeros(8), [7], test=2)


@pytest.mark.parametrize(("sizes", "test"), [([], 2), ([4], 0), ([0, 4], 2), ([4.0], 2), ([True], 2)])
def test_sizes_that_are_no_numbers_of_molecules(sizes, test):
    with pytest.raises(
        ValueError, match="learning_curve: expected sizes and test to be numbers of molecules, at least 1"
    ):
        learning_curve({}, None, molecules(), np.zeros(8), sizes, test=test)


def test_models_are_fitted_to_the_training_molecules_alone():
    """Each size's errors are those of a fit by hand, and the model given is left as it was."""
    atoms = [ase.Atoms("OH2", positions=[[0, 0, 0], [0.9 + k / 20, 0, 0], [0, 1.0 - k / 30, 0.1]]) for k in range(9)]
    energies = np.array([float(np.sum(a.get_all_distances())) for a in atoms])
    x = environments(atoms, species=("H", "O"), **ENERGY_ENVIRONMENTS)
    model = InducingRegressor(energy_network(), inducing=6)
    points = learning_curve({"so3": model}, x, atoms, energies, [4, 7], test=2, draw=3)
    assert [(p.method, p.size, p.draw) for p in points[1::2]] == [("so3", 4, 3), ("so3", 7, 3)]
    assert not hasattr(model, "dual_coef_")
    fitted = InducingRegressor(energy_network(), inducing=6).fit(x[:7], energies[:7])
    assert points[-1].mae == pytest.approx(np.abs(fitted.predict(x[-2:]) - energies[-2:]).mean(), rel=1e-6)
    assert points[-1].loo == fitted.loo_error_
    assert points[-1].mae < points[-2].mae


@pytest.mark.parametrize("build", [energy_network, mlp_network])
def test_the_documented_networks(build):
    """Energies of rotated and of shuffled molecules are equal for the first, and both have kernels of their own elements alone."""
    rng = np.random.default_rng(0)
    water = ase.Atoms("OH2", positions=rng.normal(size=(3, 3)))
    turned = water[[2, 0, 1]]
    turned.rotate(40, (1, 2, 3))
    x = environments([water, turned, ase.Atoms("HF", positions=[[0, 0, 0], [0, 0, 1.0]])], **ENERGY_ENVIRONMENTS)
    kernel = np.asarray(build().kernel_fn(x, get="ntk"))
    assert np.isclose(kernel[0, 0], kernel[0, 1], rtol=1e-5) == (build is energy_network)
    assert (np.linalg.eigvalsh(kernel) > -1e-6).all()
    with pytest.raises(ValueError, match="at least one nonlinearity, got 0"):
        build(0)
