"""Rotations and Wigner matrices against scipy's harmonics and Wigner's explicit sum."""

import math

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from so3ntk.sphere import rotations as rot
from so3ntk.sphere import sampling as grids
from so3ntk.sphere.signals import SphereSignal, rotate

EPS = np.finfo(np.float64).eps
OCTAHEDRAL = Rotation.create_group("O")
RANDOM = rot.random_rotations(20, seed=1)
POLAR = [0.0, 1e-8, math.pi - 1e-8, math.pi]


def assert_close(actual, desired, atol):
    np.testing.assert_allclose(actual, desired, atol=atol, rtol=0)


def unit_vectors(n, seed):
    vectors = np.random.default_rng(seed).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_signal(n, bandlimit):
    return SphereSignal(np.random.default_rng(n).normal(size=(n, bandlimit**2, 2)), bandlimit)


def complex_harmonics(degree, vectors):
    """(k, 2l + 1), by scipy: Condon-Shortley phase, orthonormal."""
    theta = np.arctan2(np.hypot(vectors[:, 0], vectors[:, 1]), vectors[:, 2])
    phi = np.arctan2(vectors[:, 1], vectors[:, 0])
    return np.stack([sph_harm_y(degree, m, theta, phi) for m in range(-degree, degree + 1)], axis=1)


def real_harmonics(degree, vectors):
    """(k, 2l + 1), written out from the definition in DESIGN section 2."""
    values = complex_harmonics(degree, vectors)
    columns = []
    for m in range(-degree, degree + 1):
        y = values[:, degree + abs(m)]
        columns.append(y.real if m == 0 else math.sqrt(2) * (-1) ** m * (y.real if m > 0 else y.imag))
    return np.stack(columns, axis=1)


def wigner_d_by_sum(degree, beta):
    """Wigner's sum of factorials (Varshalovich 4.3.1): exact integers, so good to a few eps for small l."""
    f, half_cos, half_sin = math.factorial, math.cos(beta / 2), math.sin(beta / 2)
    d = np.zeros((2 * degree + 1, 2 * degree + 1))
    for m in range(-degree, degree + 1):
        for n in range(-degree, degree + 1):
            root = math.sqrt(f(degree + m) * f(degree - m) * f(degree + n) * f(degree - n))
            for s in range(max(0, n - m), min(degree + n, degree - m) + 1):
                count = f(degree + n - s) * f(s) * f(m - n + s) * f(degree - m - s)
                power = half_cos ** (2 * degree + n - m - 2 * s) * half_sin ** (m - n + 2 * s)
                d[degree + m, degree + n] += (-1) ** (m - n + s) * root / count * power
    return d


class TestHomomorphism:
    @pytest.mark.parametrize("make", [rot.wigner_D, rot.real_wigner_D])
    @pytest.mark.parametrize("group", [OCTAHEDRAL, RANDOM], ids=["octahedral", "random"])
    def test_product(self, group, make):
        first = [i for i in range(len(group)) for _ in range(len(group))]
        second = list(range(len(group))) * len(group)
        for degree in range(17):
            d, product = make(degree, group), make(degree, group[first] * group[second])
            # Angles carry 8 eps and enter the phases m times; a sum of 2l + 1 products adds as much.
            assert_close(d[first] @ d[second], product, atol=32 * (degree + 1) * EPS)

    def test_inverse_is_the_transpose(self):
        for degree in range(17):
            d, inverse = rot.real_wigner_D(degree, RANDOM), rot.real_wigner_D(degree, RANDOM.inv())
            assert_close(inverse, d.transpose(0, 2, 1), atol=32 * (degree + 1) * EPS)

    @pytest.mark.parametrize("degree", [31, 63])
    def test_orthogonal_at_high_degree(self, degree):
        d = rot.real_wigner_D(degree, RANDOM)
        identity = np.broadcast_to(np.eye(2 * degree + 1), d.shape)
        assert_close(d @ d.transpose(0, 2, 1), identity, atol=32 * (degree + 1) * EPS)


class TestActionOnFunctions:
    """[rho(R) f](x) = f(R^-1 x) at 50 points, by scipy: fixes the order, sign and phase of the angles."""

    VARIANTS = {  # noqa: RUF012
        "right": lambda a, b, c, d: (a, b, c, d),
        "swapped": lambda a, b, c, d: (c, b, a, d),
        "inverted": lambda a, b, c, d: (-c, -b, -a, d),
        "conjugated": lambda a, b, c, d: (a, b, c, np.conj(d)),
    }

    @staticmethod
    def error(degree, variant):
        """The largest error over 20 rotations if D is made by a variant."""
        rng = np.random.default_rng(degree)
        coefficients = rng.normal(size=2 * degree + 1) + 1j * rng.normal(size=2 * degree + 1)
        points, worst = unit_vectors(50, seed=2), 0.0
        for rotation, angles in zip(RANDOM, rot.euler_angles(RANDOM), strict=True):
            alpha, beta, gamma, _ = variant(*angles, 0)
            d = rot.wigner_D(degree, Rotation.from_euler("ZYZ", [alpha, beta, gamma]))[0]
            rotated = variant(*angles, d)[3] @ coefficients
            expected = complex_harmonics(degree, rotation.inv().apply(points)) @ coefficients
            worst = max(worst, abs(complex_harmonics(degree, points) @ rotated - expected).max())
        return worst

    @pytest.mark.parametrize("degree", [1, 2, 5, 8, 16])
    def test_complex(self, degree):
        # The points are rotated to a few eps, and a harmonic's slope is about l^1.5.
        assert self.error(degree, self.VARIANTS["right"]) < 64 * (degree + 1) ** 1.5 * EPS

    @pytest.mark.parametrize("variant", ["swapped", "inverted", "conjugated"])
    @pytest.mark.parametrize("degree", [1, 2, 5])
    def test_wrong_variants_fail(self, degree, variant):
        assert self.error(degree, self.VARIANTS[variant]) > 0.1

    @pytest.mark.parametrize("degree", [0, 1, 2, 5, 8, 16])
    def test_real(self, degree):
        coefficients = np.random.default_rng(degree).normal(size=2 * degree + 1)
        points = unit_vectors(50, seed=3)
        for rotation in RANDOM:
            rotated = rot.real_wigner_D(degree, rotation)[0] @ coefficients
            expected = real_harmonics(degree, rotation.inv().apply(points)) @ coefficients
            error = abs(real_harmonics(degree, points) @ rotated - expected).max()
            assert error < 64 * (degree + 1) ** 1.5 * EPS

    def test_degree_one_is_the_matrix_in_the_order_y_z_x(self):
        order = [1, 2, 0]
        expected = RANDOM.as_matrix()[:, order][:, :, order]
        assert_close(rot.real_wigner_D(1, RANDOM), expected, atol=16 * EPS)

    @pytest.mark.parametrize("beta", POLAR)
    def test_at_the_poles(self, beta):
        points = unit_vectors(50, seed=4)
        for alpha, gamma in [(0.3, 1.1), (-2.0, 0.7), (0.0, 0.0), (3.0, -3.0)]:
            rotation = Rotation.from_euler("ZYZ", [alpha, beta, gamma])
            for degree in (1, 4, 8):
                d = rot.real_wigner_D(degree, rotation)[0]
                expected = real_harmonics(degree, rotation.inv().apply(points))
                error = abs(real_harmonics(degree, points) @ d - expected).max()
                assert error < 64 * (degree + 1) ** 1.5 * EPS


class TestSmallWignerMatrix:
    @pytest.mark.parametrize("degree", range(7))
    def test_closed_form(self, degree):
        for beta in [*POLAR, 0.4, 1.5, 2.9, -0.7]:
            expected = wigner_d_by_sum(degree, beta)
            # The sum's terms are up to binomial(2l, l) times its value.
            assert_close(rot.wigner_d(degree, beta), expected, atol=4 * 2**degree * EPS)

    def test_degree_one_written_out(self):
        beta = 0.8
        c, s = math.cos(beta), math.sin(beta)
        rows = [[(1 + c) / 2, s / 2**0.5, (1 - c) / 2],
                [-s / 2**0.5, c, s / 2**0.5],
                [(1 - c) / 2, -s / 2**0.5, (1 + c) / 2]]  # fmt: skip
        assert_close(rot.wigner_d(1, beta), rows, atol=4 * EPS)

    def test_batch_of_angles(self):
        beta = np.linspace(0, np.pi, 6).reshape(2, 3)
        assert rot.wigner_d(3, beta).shape == (2, 3, 7, 7)
        np.testing.assert_array_equal(rot.wigner_d(3, beta)[1, 2], rot.wigner_d(3, np.pi))

    def test_is_real_and_float64(self):
        assert rot.wigner_d(5, 0.3).dtype == np.float64


class TestRealFromComplex:
    @pytest.mark.parametrize("degree", [0, 1, 2, 7, 63])
    def test_unitary(self, degree):
        change = rot.real_from_complex(degree)
        assert_close(change @ change.conj().T, np.eye(2 * degree + 1), atol=4 * EPS)

    @pytest.mark.parametrize("degree", [0, 1, 2, 7])
    def test_makes_the_real_harmonics(self, degree):
        points = unit_vectors(20, seed=5)
        values = complex_harmonics(degree, points) @ rot.real_from_complex(degree).T
        assert_close(values, real_harmonics(degree, points), atol=16 * EPS)

    def test_degree_one_is_y_z_x(self):
        points = unit_vectors(20, seed=6)
        expected = math.sqrt(3 / (4 * math.pi)) * points[:, [1, 2, 0]]
        assert_close(real_harmonics(1, points), expected, atol=8 * EPS)


class TestRotatedSignals:
    def test_the_inverse_acts_on_points(self):
        signal, points, errors = random_signal(20, 8), unit_vectors(50, seed=13), []
        each = np.asarray(rotate(signal, RANDOM).at(points))
        for i, rotation in enumerate(RANDOM):
            expected = signal[i].at(rotation.inv().apply(points))
            # Points are rotated to a few eps, and a sum of 64 terms of size 1 has slopes of about 64.
            assert_close(each[i : i + 1], expected, 16 * 64 * EPS)
            assert_close(rotate(signal[i], rotation.as_matrix()).at(points), expected, 16 * 64 * EPS)
            errors.append(abs(each[i] - signal[i].at(rotation.apply(points))).max())
        assert min(errors) > 0.1  # the inverse rotation is told apart
        one_for_all = rotate(signal, RANDOM[3])
        assert_close(one_for_all[3].at(points), each[3:4], 16 * 64 * EPS)

    @pytest.mark.parametrize("sampling", grids.SAMPLINGS)
    def test_agrees_with_samples_of_a_rotated_function(self, sampling):
        grid, coefficients = grids.directions(sampling, 4), []
        for points in (grid, RANDOM[0].inv().apply(grid.reshape(-1, 3)).reshape(grid.shape)):
            x, y, z = np.moveaxis(points, -1, 0)
            samples = (x**2 * y - 0.3 * z + 0.7)[None, ..., None]
            coefficients.append(SphereSignal.from_samples(samples, sampling, 4))
        straight, expected = coefficients
        assert_close(rotate(straight, RANDOM[0]).coefficients, expected.coefficients, 200 * EPS)

    def test_precision_tracing_and_few_signals(self):
        signal = random_signal(20, 8)
        double = rotate(signal, RANDOM).coefficients
        single = rotate(SphereSignal(signal.coefficients.astype("float32"), 8), RANDOM)
        assert single.dtype == "float32"
        assert_close(single.coefficients, double, 64 * np.finfo(np.float32).eps)  # sums of 15 products
        assert_close(jax.jit(lambda x: rotate(x, RANDOM))(signal).coefficients, double, 16 * EPS)
        for n in (0, 1):
            for given in (RANDOM[:1], RANDOM[0], np.zeros((n, 3, 3)) + np.eye(3)):
                assert rotate(random_signal(n, 3), given).shape == (n, 9, 2)


class TestSphericalHarmonics:
    """The package's harmonics and the layouts of coefficients follow the same conventions."""

    @pytest.mark.parametrize("bandlimit", [1, 2, 8, 64])
    def test_real_harmonics(self, bandlimit):
        poles = [*np.eye(3), *-np.eye(3), [1e-9, 0, 1], [0, 1e-9, -1]]
        points = np.concatenate([unit_vectors(40, seed=10), poles])
        expected = np.concatenate([real_harmonics(degree, points) for degree in range(bandlimit)], axis=1)
        # Values up to sqrt(L / 2 pi); rounding of the angles and both recursions grow like L.
        assert_close(grids.real_harmonics(points, bandlimit), expected, atol=64 * bandlimit**1.5 * EPS)

    @pytest.mark.parametrize("bandlimit", [1, 2, 5])
    def test_both_layouts_are_the_same_function(self, bandlimit):
        coefficients = np.random.default_rng(11).normal(size=(bandlimit**2, 3))
        points = unit_vectors(30, seed=12)
        flm, values = grids.complex_coefficients(coefficients), np.zeros((30, 3), complex)
        assert flm.shape == (bandlimit, 2 * bandlimit - 1, 3)
        for degree in range(bandlimit):
            orders = slice(bandlimit - 1 - degree, bandlimit + degree)
            values += complex_harmonics(degree, points) @ flm[degree, orders]
        expected = grids.real_harmonics(points, bandlimit) @ coefficients
        assert_close(values, expected, atol=100 * bandlimit * EPS)
        assert_close(grids.real_coefficients(flm), coefficients, atol=16 * EPS)


class TestEulerAngles:
    @pytest.mark.parametrize("group", [OCTAHEDRAL, RANDOM], ids=["octahedral", "random"])
    def test_round_trip_of_matrices(self, group):
        angles = rot.euler_angles(group)
        assert np.all((angles[:, 1] >= 0) & (angles[:, 1] <= np.pi))
        back = Rotation.from_euler("ZYZ", angles).as_matrix()
        assert_close(back, group.as_matrix(), atol=8 * EPS)

    def test_round_trip_of_angles(self):
        rng = np.random.default_rng(7)
        angles = rng.uniform([-3, 0.1, -3], [3, 3, 3], size=(20, 3))
        assert_close(
            rot.euler_angles(Rotation.from_euler("ZYZ", angles)), angles, atol=200 * EPS
        )  # 8 eps / sin 0.1 at the smallest beta

    @pytest.mark.parametrize("beta", POLAR)
    def test_poles(self, beta):
        rotation = Rotation.from_euler("ZYZ", [[0.3, beta, 1.1], [-2.0, beta, 0.4]])
        angles = rot.euler_angles(rotation)
        back = Rotation.from_euler("ZYZ", angles).as_matrix()
        assert_close(back, rotation.as_matrix(), atol=8 * EPS)
        if beta in (0.0, math.pi):
            np.testing.assert_array_equal(angles[:, 2], 0)

    @pytest.mark.parametrize("beta", [1e-12, 1e-10, 1e-8, 1e-4, math.pi - 1e-8])
    def test_matrices_with_rounding_near_the_poles(self, beta):
        # A product of matrices has errors of eps in its small entries too, which alone determine alpha.
        rotation = Rotation.from_euler("ZYZ", [0.3, beta, 1.1])
        matrices = RANDOM.as_matrix() @ (RANDOM.inv() * rotation).as_matrix()
        back = Rotation.from_euler("ZYZ", rot.euler_angles(matrices)).as_matrix()
        assert_close(back, matrices, atol=16 * EPS)


class TestTable:
    @pytest.mark.parametrize("bandlimit", [1, 2, 5])
    def test_columns_are_indexed_by_block_indices(self, bandlimit):
        table = rot.real_wigner_table(bandlimit, rot.euler_angles(RANDOM))
        degrees, rows, columns = rot.block_indices(bandlimit)
        assert table.shape == (len(RANDOM), bandlimit * (4 * bandlimit**2 - 1) // 3)
        assert table.shape[1] == len(degrees) == len(rows) == len(columns)
        dense = np.zeros((len(RANDOM), bandlimit**2, bandlimit**2))
        dense[:, rows, columns] = table
        for degree in range(bandlimit):
            block = slice(degree**2, (degree + 1) ** 2)
            expected = rot.real_wigner_D(degree, RANDOM)
            assert_close(dense[:, block, block], expected, atol=8 * EPS)
            assert np.count_nonzero(degrees == degree) == (2 * degree + 1) ** 2

    def test_rotates_a_coefficient_vector(self):
        bandlimit, points = 5, unit_vectors(30, seed=8)
        degrees, rows, columns = rot.block_indices(bandlimit)
        coefficients = np.random.default_rng(9).normal(size=bandlimit**2)
        table = rot.real_wigner_table(bandlimit, rot.euler_angles(RANDOM))
        harmonics = np.concatenate([real_harmonics(l, points) for l in range(bandlimit)], axis=1)  # noqa: E741
        for rotation, row in zip(RANDOM, table, strict=True):
            rotated = np.zeros(bandlimit**2)
            np.add.at(rotated, rows, row * coefficients[columns])
            moved = rotation.inv().apply(points)
            expected = np.concatenate([real_harmonics(l, moved) for l in range(bandlimit)], axis=1)  # noqa: E741
            assert_close(harmonics @ rotated, expected @ coefficients, atol=2000 * EPS)
        assert degrees.max() == bandlimit - 1


class TestRefusals:
    @pytest.mark.parametrize("bandlimit", [0, -1, 65])
    def test_bandlimit_out_of_range(self, bandlimit):
        with pytest.raises(ValueError, match=rf"here: expected a bandlimit from 1 to 64 .* got {bandlimit}"):
            rot.check_bandlimit(bandlimit, "here")

    @pytest.mark.parametrize("bandlimit", [True, 2.0, "8", None])
    def test_bandlimit_of_another_type(self, bandlimit):
        with pytest.raises(TypeError, match="bandlimit"):
            rot.check_bandlimit(bandlimit, "here")

    @pytest.mark.parametrize("shape", [(3,), (2, 3), (5, 3, 2), (1, 2, 3, 3)])
    def test_shape(self, shape):
        with pytest.raises(ValueError, match="rotations: expected a scipy Rotation or matrices"):
            rot.matrices_of(np.zeros(shape))

    def test_not_finite(self):
        with pytest.raises(ValueError, match="NaN or infinity"):
            rot.matrices_of(np.full((3, 3), np.nan))

    def test_not_orthogonal(self):
        with pytest.raises(ValueError, match=r"not orthogonal \(R R\^T differs from 1 by 1\.2e\+00\)"):
            rot.matrices_of(np.eye(3) * 1.5)

    def test_reflection(self):
        with pytest.raises(ValueError, match="determinant -1"):
            rot.matrices_of(np.diag([1.0, 1.0, -1.0]))

    def test_accepts_one_matrix_many_and_none(self):
        assert rot.matrices_of(np.eye(3)).shape == (1, 3, 3)
        assert rot.matrices_of(RANDOM).shape == (20, 3, 3)
        assert rot.real_wigner_D(2, np.zeros((0, 3, 3))).shape == (0, 5, 5)


def test_random_rotations_are_seeded():
    first, again, other = (rot.random_rotations(3, seed).as_matrix() for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 0.1
