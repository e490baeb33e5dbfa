"""Spectra by irreps: against the signal's own power, the kernels of irrep readouts, and the dense kernel of all moved signals."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

import planar
import so3ntk
from so3ntk.spectra import irrep_spectrum

RNG = np.random.default_rng(3)
FLAT = so3ntk.serial(planar.Flatten(), so3ntk.Dense(b_std=0.3), so3ntk.Relu())
IMAGES = RNG.normal(size=(2, 4, 4, 1))
GRID = so3ntk.ProductGrid(8)


@pytest.fixture(scope="module")
def of_images():
    return irrep_spectrum(FLAT, IMAGES, group="D4")


def signals(count=2, bandlimit=2, channels=2):
    flm = np.zeros((count, bandlimit, 2 * bandlimit - 1, channels), complex)
    for degree in range(bandlimit):
        for m in range(degree + 1):
            value = RNG.normal(size=(count, channels)) + (1j * RNG.normal(size=(count, channels)) if m else 0)
            flm[:, degree, bandlimit - 1 + m] = value
            flm[:, degree, bandlimit - 1 - m] = (-1) ** m * value.conj()
    return so3ntk.SphereSignal.from_coefficients(flm), flm


def test_the_power_of_a_linear_network_is_the_signals():
    """sum_m |f_lm|^2 / 4 pi, of harmonic coefficients as s2fft has them; with O(3) in the parity of harmonics alone."""
    x, flm = signals(bandlimit=3)
    power = (np.abs(flm) ** 2).sum(axis=(2)).mean(axis=(0, 2)) / (4 * np.pi)
    net = so3ntk.serial(so3ntk.Lift(W_std=1.5, group="O3"), so3ntk.GroupConv(W_std=2.0), so3ntk.GroupPool())
    found = irrep_spectrum(net, x, kernel="nngp", degrees=4)
    by_degree = found.power.reshape(2, 4, -1)
    np.testing.assert_allclose(by_degree.sum(axis=2)[:, :3], [1.5**2 * power, 9 * power], rtol=1e-12)
    np.testing.assert_allclose(by_degree[:, 3], 0, atol=1e-13)
    np.testing.assert_allclose(found.rest, 0, atol=1e-13)
    assert found.labels[:4] == ("l=0 +", "l=0 -", "l=1 +", "l=1 -")
    np.testing.assert_allclose(by_degree[0, [0, 1, 2], [1, 0, 1]], 0, atol=1e-13)
    assert found.kept[:2] == (1, 0)


def test_power_on_images_is_the_periodogram():
    net = so3ntk.serial(planar.Lift((3, 3), group="D4"), planar.GroupConv((3, 3)), planar.GroupPool())
    found = irrep_spectrum(net, IMAGES, kernel="nngp")
    periodogram = (np.abs(np.fft.fft2(IMAGES[..., 0])) ** 2).mean(axis=0) / 16**2
    orbits = {
        "(0, 0)": [(0, 0)],
        "(1, 0)": [(0, 1), (1, 0), (0, 3), (3, 0)],
        "(2, 1)": [(2, 1), (1, 2), (2, 3), (3, 2)],
    }
    for label, waves in orbits.items():
        np.testing.assert_allclose(
            found.power[0, found.labels.index(label)], sum(periodogram[w] for w in waves), rtol=1e-12
        )
    np.testing.assert_allclose(found.power[0].sum(), (IMAGES**2).mean(), rtol=1e-12)
    np.testing.assert_allclose(found.element_power.sum(axis=2), found.power, rtol=1e-12)
    assert found.elements == ("A1", "A2", "B1", "B2", "E")
    assert found.element_power.min() > -1e-12


@pytest.mark.parametrize(
    ("lift", "convolution", "degree", "parity"),
    [({"group": "O3"}, {"bandlimit": 2}, 1, -1), ({"support": 0.8}, {"support": 0.8}, 1, None)],
)
def test_blocks_are_those_of_irrep_readouts(lift, convolution, degree, parity):
    x, _ = signals()
    grid = so3ntk.LocalGrid(GRID, so3ntk.SphereGrid(4)) if "support" in lift else GRID
    layers = (so3ntk.Lift(**lift), so3ntk.Relu(), so3ntk.GroupConv(**convolution))
    net = so3ntk.serial(*layers, so3ntk.IrrepPool(degree, parity), quadrature=grid)
    found = irrep_spectrum(net, x, degrees=2, each_layer=False)
    blocks = np.asarray(net.kernel_fn(x, None, "ntk"))
    gram = blocks.transpose(0, 2, 1, 3).reshape(6, 6) / len(x)
    label = f"l={degree}" if parity is None else f"l={degree} {'+' if parity > 0 else '-'}"
    k = found.labels.index(label)
    np.testing.assert_allclose(found.eigenvalues[k], np.linalg.eigvalsh(gram)[::-1], atol=1e-12 * np.trace(gram))
    np.testing.assert_allclose(found.power[-1, k], np.trace(gram) * 3, rtol=1e-10)
    assert found.kept[k] == 9
    assert sum(found.kept) == 9


def test_equivariant_and_fully_connected_networks_share_their_eigenvalues():
    x, _ = signals()
    pooled = so3ntk.serial(so3ntk.Lift(b_std=0.3), so3ntk.Relu(), so3ntk.GroupPool(), so3ntk.Dense(b_std=0.4))
    flat = so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(b_std=0.3), so3ntk.Relu(), so3ntk.Dense(b_std=0.4))
    found = irrep_spectrum(pooled, x, degrees=5, quadrature=so3ntk.ProductGrid(12))
    other = irrep_spectrum(flat, x, degrees=5, quadrature=so3ntk.ProductGrid(12), each_layer=False)
    assert found.layers == ("1 Lift", "2 Relu", "3 Dense")
    for values, others in zip(found.eigenvalues, other.eigenvalues, strict=True):
        np.testing.assert_allclose(values, others, atol=1e-13 * values[0])
    # rest is what the variance has beyond
    diagonal = np.diag(flat.kernel_fn(x, None, "ntk")).mean()
    np.testing.assert_allclose(found.power[-1].sum() + found.rest[-1], diagonal, rtol=1e-12)
    assert 0 < found.rest[-1] < 0.1 * diagonal
    assert found.kept == (1, 0, 0, 0, 0)
    assert other.kept == (1, 9, 25, 49, 81)
    np.testing.assert_allclose(found.kept_by("equivariant"), found.kept)
    np.testing.assert_allclose(found.kept_by("mlp"), other.kept)
    # of the tetrahedral group l = 3, 4 have an invariant, l = 1, 2 none; of half turns about z 1, 3, 3, 5 of 3, 5, 7, 9
    np.testing.assert_allclose(found.kept_by(Rotation.create_group("T")), [1, 0, 0, 7, 9], atol=1e-12)
    half_turns = Rotation.from_rotvec([[0, 0, 0], [0, 0, np.pi]])
    np.testing.assert_allclose(found.kept_by(half_turns), [1, 3, 15, 21, 45], atol=1e-12)
    assert found.learning_times[0] == 1 / found.eigenvalues[0][0]


def test_the_dense_kernel_of_all_moved_images(of_images):
    """Its eigenvalues, each with its multiplicity, and gradient flow with it on a target, of four networks."""
    found, moved = of_images, of_images.moved(IMAGES)

    def averaged_over(motions):
        return np.mean([FLAT.kernel_fn(moved, motions.move(moved, i), "ntk") for i in range(len(motions))], axis=0)

    dense = averaged_over(planar.motions("C1")) / len(moved)
    values = np.concatenate([np.repeat(v, kind.copies) for v, kind in zip(found.eigenvalues, found.kinds, strict=True)])
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(dense), atol=1e-13 * values.max())
    np.testing.assert_allclose(found.power[-1].sum(), np.diag(dense).mean() * len(moved), rtol=1e-12)
    target = RNG.normal(size=(2, len(moved) // 2))
    parts = found.target(target)
    assert abs(parts.rest) < 1e-12
    np.testing.assert_allclose(parts.power.sum(), (target**2).mean(), rtol=1e-12)
    invariant = dense.reshape(2, -1, 2, len(moved) // 2).mean(axis=(1, 3))
    kernels = {
        "mlp": dense,
        "equivariant": np.repeat(np.repeat(invariant, len(moved) // 2, axis=0), len(moved) // 2, axis=1),
    }
    for subgroup in (planar.motions("D4"), planar.motions("C2", size=4, stride=2)):
        kernels[subgroup] = averaged_over(subgroup) / len(moved)
    for network, averaged in kernels.items():
        flow = scipy.linalg.expm(-3.0 * averaged) @ target.ravel()
        np.testing.assert_allclose(parts.residual([3.0], network).sum(), (flow**2).mean(), rtol=1e-10)
    assert parts.residual([np.inf])[0].sum() < 1e-12
    invariant = found.target([1.0, -2.0])
    np.testing.assert_allclose(invariant.power, [2.5, *np.zeros(len(found.kinds) - 1)], atol=1e-13)


def test_a_network_asked_for_another_group():
    """A CNN keeps no shifts: on the orbits of C4 it has the wave vector zero alone, in all irreps of the turns."""
    net = so3ntk.serial(planar.Lift((3, 3), group="C1"), so3ntk.Relu(), planar.GroupPool())
    found = irrep_spectrum(net, IMAGES, group="C4")
    assert found.labels[0] == "(0, 0)"
    assert found.power[0, 1:].max() < 1e-12
    assert (found.element_power[0, 0] > 1e-6).all()


def test_tables_and_pictures(of_images, tmp_path):
    text = str(of_images)
    assert "ntk of 2 signals, 128 motions: shares of the power" in text
    assert "(2, 2)" in text
    assert of_images.plot(tmp_path / "irreps.png").stat().st_size > 1000


def test_bad_arguments(of_images, wrong_arguments):
    x, _ = signals()
    pooled = so3ntk.serial(so3ntk.Lift(), so3ntk.Relu(), so3ntk.GroupPool())
    same = so3ntk.serial(planar.Lift((3, 3), "SAME"), so3ntk.Relu(), planar.GroupPool())
    cases = [
        ((so3ntk.Relu(), x), {}, TypeError, "expected a Network"),
        ((pooled, x[:0]), {}, ValueError, "expected at least one signal, got none"),
        ((pooled, x), {"kernel": "both"}, ValueError, 'expected kernel to be "ntk" or "nngp"'),
        ((pooled, x), {"group": "C4"}, ValueError, 'expected group to be "SO3" or "O3" for signals on the sphere'),
        ((pooled, x), {"degrees": 0}, ValueError, "expected degrees to be an integer from 1 to"),
        ((pooled, x), {"degrees": 40}, ValueError, r"give a finer one, as quadrature=ProductGrid\("),
        ((pooled, IMAGES), {}, TypeError, "expected a SphereSignal, or images"),
        ((FLAT, IMAGES), {"group": "C3"}, ValueError, "expected group to be one of C1, C2, C4, D4"),
        ((FLAT, IMAGES), {"degrees": 3}, ValueError, "degrees and quadrature are for signals on the sphere"),
        ((FLAT, IMAGES[:, :3]), {"group": "C4"}, ValueError, "expected square images"),
        ((same, IMAGES), {}, ValueError, "Fourier modes need windows with padding='CIRCULAR'"),
        ((FLAT, np.full((1, 2, 2, 1), np.nan)), {}, ValueError, "x1 holds NaN or infinity, first in signal 0"),
    ]
    for arguments, keywords, error, message in cases:
        with pytest.raises(error, match=message):
            irrep_spectrum(*arguments, **keywords)
    with pytest.raises(ValueError, match=r"expected values at 128 motions of each of 2 signals"):
        of_images.target(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        of_images.target([np.nan, 1.0])
    with pytest.raises(ValueError, match="expected times that are at least zero"):
        of_images.target([0.0, 1.0]).residual([-1.0])
    with pytest.raises(ValueError, match='"mlp", "equivariant" or a finite subgroup'):
        of_images.kept_by("cnn")
