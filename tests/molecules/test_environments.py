import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.build import molecule as g2
from sklearn.model_selection import KFold, train_test_split

from so3ntk import Dense, Flatten, gram, serial
from so3ntk.learning.augmentation import Rotations
from so3ntk.molecules import (
    AtomSum,
    Environments,
    environment_coefficients,
    environments,
    load_qm9,
    read_molecules,
)
from so3ntk.molecules.coefficients import DEFAULT_ANGULAR_WIDTH
from so3ntk.molecules.neighbours import pairs_in_molecules, pairs_within
from so3ntk.sphere.signals import SphereSignal

EPS = np.finfo(np.float64).eps
NAMES = ("CH3CH2OH", "HCN", "H2O", "CF3CN", "CH4")


@pytest.fixture(scope="module")
def envs():
    return environments([g2(name) for name in NAMES], bandlimit=3)


def assert_same(a, b):
    np.testing.assert_array_equal(a.signal.coefficients, b.signal.coefficients)
    np.testing.assert_array_equal(a.molecule, b.molecule)
    np.testing.assert_array_equal(a.numbers, b.numbers)


def test_values_and_metadata(envs):
    structures = [g2(name) for name in NAMES]
    numbers = np.concatenate([a.numbers for a in structures])
    molecule = np.repeat(np.arange(5), [len(a) for a in structures])
    positions = np.concatenate([a.positions for a in structures])
    expected = environment_coefficients(positions, numbers, molecule, bandlimit=3)
    np.testing.assert_array_equal(envs.signal.coefficients, expected)
    np.testing.assert_array_equal(envs.numbers, numbers)
    np.testing.assert_array_equal(envs.molecule, molecule)
    assert envs.signal.bandlimit == 3
    assert (len(envs), envs.shape) == (5, (5,))
    assert envs.numbers[envs.atoms_of("O")].tolist() == [8, 8]
    np.testing.assert_array_equal(envs.atoms_of(9), np.flatnonzero(numbers == 9))
    assert not envs.molecule.flags.writeable


def test_one_molecule_is_a_batch_of_one(envs):
    assert_same(environments(g2("HCN"), bandlimit=3), envs[1])
    assert_same(environments((g2(name) for name in NAMES), bandlimit=3), envs)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (2, [2]),
        (-1, [4]),
        (np.int64(3), [3]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [4, 2, 0]),
        ([4, 0, 4], [4, 0, 4]),
        (np.array([3, 1]), [3, 1]),
        (jnp.array([3, 1]), [3, 1]),
        (np.array([True, False, False, True, False]), [0, 3]),
        ((np.array([2, 0]), Ellipsis), [2, 0]),
        ([], []),
    ],
)
def test_indexing_is_by_molecule(envs, index, rows):
    chosen = envs[index]
    assert len(chosen) == len(rows)
    atoms = np.concatenate([np.flatnonzero(envs.molecule == row) for row in rows] or [np.zeros(0, int)])
    np.testing.assert_array_equal(chosen.signal.coefficients, envs.signal.coefficients[atoms])
    np.testing.assert_array_equal(chosen.numbers, envs.numbers[atoms])
    sizes = [np.count_nonzero(envs.molecule == row) for row in rows]
    np.testing.assert_array_equal(chosen.molecule, np.repeat(np.arange(len(rows)), sizes))


@pytest.mark.parametrize("index", [5, -6, [0, 5], np.ones(4, bool), np.array([0.5]), np.zeros((2, 2), int), None])
def test_wrong_indices(envs, index):
    with pytest.raises(IndexError):
        envs[index]


def test_iteration(envs):
    assert [len(one.numbers) for one in envs] == [len(g2(name)) for name in NAMES]


def test_concatenate(envs):
    assert_same(Environments.concatenate([envs[:2], envs[2], envs[[3, 4]]]), envs)
    with pytest.raises(ValueError, match="bandlimit"):
        Environments.concatenate([envs, environments(g2("HCN"), bandlimit=2)])
    with pytest.raises(ValueError, match="channels"):
        Environments.concatenate([envs, environments(g2("HCN"), bandlimit=3, powers=(2,))])
    with pytest.raises(ValueError, match="at least one"):
        Environments.concatenate([])


UNLIKE = [
    ({"species": ("H", "C", "N", "O", "S")}, r"species \('H', 'C', 'N', 'O', 'F'\) and \('H', 'C', 'N', 'O', 'S'\)"),
    ({"powers": (1, 6)}, r"powers \(2.0, 6.0\) and \(1.0, 6.0\)"),
    ({"cutoff": 4.0, "length": 1.5}, "cutoff None and 4.0; length 1.0 and 1.5"),
    ({"angular_width": 0.04}, "angular_width 0.02.* and 0.04"),
]


@pytest.mark.parametrize(("settings", "message"), UNLIKE)
def test_channels_that_mean_different_things(envs, settings, message):
    """The same number of channels, which concatenation and kernels of two batches would mix."""
    other = environments(g2("HCN"), bandlimit=3, **settings)
    plain = Environments(other.signal, other.molecule, other.numbers)
    net = serial(Flatten(), Dense(), AtomSum())
    with pytest.raises(ValueError, match=rf"concatenate: .*parts 1 and 2 {message}.*same arguments"):
        Environments.concatenate([plain, envs[2:], other[0]])
    for call in (net.kernel_fn, lambda a, b: gram(net, a, b, progress=False)):
        with pytest.raises(ValueError, match=f"AtomSum: .*two batches {message}"):
            call(envs, other)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda a, b: net.kernel_fn(a, b, "ntk"))(envs, rotate_all(other))
    assert net.kernel_fn(envs, plain, "ntk").shape == (5, 1)
    assert Environments.concatenate([envs, plain]).settings is None


def rotate_all(x):
    return next(Rotations(np.diag([1.0, -1.0, -1.0])[None]).act(x))


def test_equal_settings_however_they_are_given(envs):
    same = environments(g2("HCN"), (1, 6, 7, 8, 9), [2.0, np.float32(6)], 3, DEFAULT_ANGULAR_WIDTH, length=1)
    joined = Environments.concatenate([envs[1:], same])
    assert joined.settings == envs.settings == rotate_all(same)[[0]].settings
    assert hash(joined.settings) == hash(envs.settings)
    with pytest.raises(TypeError, match="settings"):
        Environments(same.signal, same.molecule, same.numbers, {"powers": (2, 6)})


def test_jit_treats_the_molecules_as_metadata(envs):
    traces = []

    @jax.jit
    def energies(x):
        traces.append(len(x))
        return jax.ops.segment_sum(jnp.sum(x.signal.coefficients**2, axis=(1, 2)), x.molecule, len(x))

    whole = energies(envs)
    parts = np.concatenate([energies(envs[i]) for i in range(5)])
    np.testing.assert_allclose(whole, parts, rtol=10 * EPS)
    assert len(traces) == 6
    energies(environments([g2(name) for name in NAMES], bandlimit=3))
    assert len(traces) == 6  # equal elements and sizes: no new trace
    half = jax.jit(lambda x: x[[1, 0]])(envs)
    assert_same(half, envs[[1, 0]])


def test_gradient_in_the_signal(envs):
    gradient = jax.grad(lambda x: jnp.sum(x.signal.coefficients**2))(envs)
    np.testing.assert_array_equal(gradient.signal.coefficients, 2 * envs.signal.coefficients)
    assert len(jax.tree.leaves(envs)) == 1


def test_scikit_learn_splits_by_molecule(envs):
    y = np.arange(5.0)
    for train, test in KFold(5).split(envs, y):
        assert (len(envs[train]), len(envs[test])) == (4, 1)
    x_train, x_test, y_train, y_test = train_test_split(envs, y, test_size=2, random_state=0)
    assert_same(x_train, envs[y_train.astype(int)])
    assert_same(x_test, envs[y_test.astype(int)])


@pytest.mark.parametrize(
    ("molecule", "numbers", "message"),
    [
        ([0, 0], [1, 1, 1], r"shape \(3,\)"),
        ([0, 2, 2], [1, 1, 1], "numbered 0, 1, 2"),
        ([1, 1, 1], [1, 1, 1], "numbered 0, 1, 2"),
        ([0, 1, 0], [1, 1, 1], "numbered 0, 1, 2"),
        ([0.0, 0, 1], [1, 1, 1], "integers"),
    ],
)
def test_contradictory_metadata(molecule, numbers, message):
    with pytest.raises(ValueError, match=message):
        Environments(SphereSignal(jnp.zeros((3, 4, 1)), 2), molecule, numbers)


def test_single_atoms_are_allowed():
    out = environments([Atoms("H"), g2("HCN"), Atoms("O")])
    assert len(out) == 3
    assert not np.any(out[0].signal.coefficients)
    assert not np.any(environments(Atoms("H"), cutoff=3.0).signal.coefficients)


def test_dtype():
    single = environments(g2("HCN"), dtype="float32").signal.coefficients
    assert single.dtype == jnp.float32
    np.testing.assert_array_equal(single, np.float32(environments(g2("HCN")).signal.coefficients))
    for dtype in (int, "float16", jnp.bfloat16, complex):
        with pytest.raises(TypeError, match="expected dtype to be float32 or float64, got"):
            environments(g2("HCN"), dtype=dtype)


def test_ase_is_asked_for_where_it_is_needed(monkeypatch):
    """Importing does not need it: tests/test_fresh_process.py."""
    monkeypatch.setitem(sys.modules, "ase", None)
    for call in (lambda: environments([]), load_qm9, lambda: read_molecules("x.xyz")):
        with pytest.raises(ImportError, match=r"pip install -e '.\[molecules\]' in the checkout"):
            call()


def test_pairs_in_molecules():
    molecule = np.array([4, 2, 4, 2, 4, 9])
    edges = pairs_in_molecules(molecule)
    expected = {(i, j) for i in range(6) for j in range(6) if i != j and molecule[i] == molecule[j]}
    assert len(edges) == len(expected) == 8
    assert set(zip(edges.centre.tolist(), edges.neighbour.tolist(), strict=True)) == expected
    assert len(pairs_in_molecules(np.zeros(0, int))) == 0


def test_cutoff_list_agrees_with_all_pairs():
    structures = [g2(name) for name in NAMES]
    numbers, molecule = (
        np.concatenate([a.numbers for a in structures]),
        np.repeat(np.arange(5), [len(a) for a in structures]),
    )
    positions = np.concatenate([a.positions for a in structures])
    assert len(pairs_within(structures, 2.0)) < len(pairs_in_molecules(molecule))
    expected = environment_coefficients(positions, numbers, molecule, cutoff=2.0)
    ours = environments(structures, cutoff=2.0).signal.coefficients
    np.testing.assert_allclose(ours, expected, atol=20 * EPS * np.abs(expected).max())


@pytest.mark.parametrize("pbc", [True, [True, False, True]])
def test_images_by_vesin_are_those_of_ase(pbc, monkeypatch):
    """In a cell that is smaller than the cutoff, and skewed."""
    pytest.importorskip("vesin")
    cell = Atoms(
        "CuOH",
        [[0, 0, 0], [1.1, 0.2, 0.4], [0.3, 1.9, 0.2]],
        cell=[[2.5, 0, 0], [0.6, 2.8, 0], [0.2, -0.4, 3.1]],
        pbc=pbc,
    )
    found = pairs_within([cell, cell], 4.0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    expected = pairs_within([cell, cell], 4.0)
    rows = [np.column_stack([e.centre, e.neighbour, np.round(e.offsets, 9)]) for e in (found, expected)]
    assert len(rows[0]) > 50
    np.testing.assert_array_equal(*(row[np.lexsort(row.T)] for row in rows))


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, False, True)])
@pytest.mark.parametrize("cutoff", [2.0, 5.5])
def test_periodic_cell_is_the_middle_of_a_cluster(pbc, cutoff):
    cell = np.array([[2.9, 0.0, 0.0], [0.7, 3.1, 0.0], [-0.4, 0.5, 2.6]])  # smaller than the cutoff
    atoms = Atoms("CHO", [[0.1, 0.2, 0.3], [1.4, 1.1, 0.6], [0.2, 1.7, 1.9]], cell=cell, pbc=pbc)
    periodic = environments([g2("HCN"), atoms], cutoff=cutoff)[1].signal.coefficients
    reach = np.where(atoms.pbc, 4, 0)
    shifts = [(i, j, k) for i in range(-reach[0], reach[0] + 1) for j in range(-reach[1], reach[1] + 1)
              for k in range(-reach[2], reach[2] + 1)]  # fmt: skip
    shifts.sort(key=lambda s: s != (0, 0, 0))  # the cell itself first
    positions = np.concatenate([atoms.positions + np.array(s) @ cell for s in shifts])
    close = np.linalg.norm(positions[:, None] - atoms.positions, axis=-1).min(axis=1) < cutoff + 0.1
    cluster = Atoms(np.tile(atoms.numbers, len(shifts))[close], positions[close])
    expected = environments(cluster, cutoff=cutoff).signal.coefficients[:3]
    np.testing.assert_allclose(periodic, expected, atol=100 * EPS * np.abs(expected).max())


def test_own_images_are_neighbours():
    # Simple cubic: six neighbours at one lattice constant, so that l = 1, 2, 3 vanish and l = 0, 4 do not.
    signal = environments(bulk("C", "sc", a=2.0), bandlimit=5, cutoff=2.5).signal.coefficients[0]
    power = [float(np.abs(signal[degree**2 : (degree + 1) ** 2]).max()) for degree in range(5)]
    assert power[0] > 1
    assert power[4] > 1
    np.testing.assert_allclose(power[1:4], 0, atol=1e-13 * power[0])


def test_supercell_has_the_same_environments():
    primitive = bulk("C", "diamond", a=3.57)
    one = environments(primitive, cutoff=4.0).signal.coefficients
    eight = environments(primitive.repeat(2), cutoff=4.0).signal.coefficients
    np.testing.assert_allclose(eight, np.tile(one, (8, 1, 1)), atol=200 * EPS * np.abs(one).max())


def ghost():
    return Atoms("XH", [[0, 0, 0], [0, 0, 1]])


def moved(atoms, row, position):
    atoms.positions[row] = position
    return atoms


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda: [], {}, "empty list"),
        (lambda: [g2("HCN"), Atoms()], {}, "molecule 1 has no atoms"),
        (lambda: [g2("HCN"), moved(g2("HCN"), 2, np.nan)], {}, "molecule 1, atom 2 has the position .*nan"),
        (
            lambda: [moved(g2("HCN"), 0, [0, np.inf, 0])],
            {"cutoff": 3.0},
            "molecule 0, atom 0 has the position .*inf",
        ),
        (
            lambda: [g2("HCN"), moved(g2("H2O"), 2, g2("H2O").positions[1] + 2e-4)],
            {},
            "molecule 1, atom 1, and molecule 1, atom 2, coincide: they are 0.00035 Angstrom apart",
        ),
        (lambda: [moved(g2("H2O"), 2, g2("H2O").positions[1])], {"cutoff": 3.0}, "coincide"),
        (lambda: [g2("HCN"), g2("SiH4")], {}, r"element Si \(first: molecule 1, atom 0\).*'F', 'Si'\)"),
        (lambda: [ghost()], {}, "molecule 0, atom 0 is a ghost atom"),
        (lambda: [g2("HCN"), bulk("C")], {}, "structure 1 is periodic.*Pass a cutoff"),
        (lambda: [Atoms("H", pbc=True)], {"cutoff": 3.0}, "structure 0 is periodic.*has no cell"),
        (lambda: g2("HCN"), {"bandlimit": 100}, "environments: expected a bandlimit from 1 to 64"),
        (lambda: g2("HCN"), {"powers": (-1,)}, "positive powers"),
        (lambda: g2("HCN"), {"cutoff": -1.0}, "positive cutoff"),
        (lambda: g2("HCN"), {"angular_width": 0.0}, "angular width"),
        (lambda: g2("HCN"), {"species": ("H", "H")}, "distinct species"),
    ],
)
def test_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        environments(make(), **settings)


def test_remedies_for_periodic_structures():
    """A cutoff, a cell, or pbc = False: what messages tell to do."""
    crystal, without_cell = bulk("C"), Atoms("H", pbc=True)
    assert len(environments(crystal, cutoff=3.0)) == 1
    without_cell.cell = 4 * np.eye(3)
    assert len(environments(without_cell, cutoff=3.0)) == 1
    for atoms in (crystal, Atoms("H", pbc=True)):
        atoms.pbc = False
        assert len(environments(atoms)) == 1


@pytest.mark.parametrize("atoms", [3, "HCN", [g2("HCN"), "H2O"], [np.zeros((3, 3))], None])
def test_only_atoms(atoms):
    with pytest.raises(TypeError, match=r"expected ase\.Atoms"):
        environments(atoms)
