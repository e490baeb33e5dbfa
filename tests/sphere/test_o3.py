"""O(3): mirror images have equal kernels, which are the means of SO(3)'s over both images; SO(3) tells them apart."""

import ase
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Dense,
    Erf,
    GroupConv,
    GroupPool,
    Lift,
    Monomial,
    ProductGrid,
    Relu,
    SphereSignal,
    concatenate,
    random_rotations,
    rotate,
    serial,
)
from so3ntk.molecules import AtomSum, environments
from tests.oracles.harmonics import white_signals

EPS = np.finfo(np.float64).eps
VALUES = white_signals(2, 3, 2, seed=0)
SIGNS = np.repeat([1.0, -1.0, 1.0], [1, 3, 5])[:, None]  # f(-x): degrees 0, 1, 2
CHIRAL = SphereSignal(jnp.asarray(VALUES), 3)
MIRRORED = SphereSignal(jnp.asarray(VALUES * SIGNS), 3)


ARCHITECTURES = {
    "tower": lambda group: (Lift(group=group, b_std=0.2), Relu(), GroupConv(), GroupPool(), Dense()),
    "spectrum": lambda group: (
        Lift(group=group),
        GroupConv(variances=np.array([0.5, 1.5, 2.0])),
        Monomial(3),
        GroupPool(),
    ),
    "caps": lambda group: (Lift(group=group, support=1.0), Erf(), GroupConv(support=0.8), GroupPool()),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mean_over_both_images(name):
    """On one grid exactly; a linear readout after pooling commutes with the mean."""
    layers, images = ARCHITECTURES[name], concatenate([CHIRAL[:1], MIRRORED[:1]])
    found, parts = (
        serial(*layers(group), quadrature=ProductGrid(4)).kernel_fn(CHIRAL, images) for group in ("O3", "SO3")
    )
    for kernel, part in zip(found, parts, strict=True):
        size = np.abs(kernel).max()
        mean = np.repeat(part.mean(axis=1, keepdims=True), 2, axis=1)
        np.testing.assert_allclose(kernel, mean, rtol=0, atol=500 * EPS * size)  # so that both images are alike
        assert np.abs(part[:, 0] - part[:, 1]).max() > 1e-4 * size  # the signals are chiral, and SO(3) sees it


def test_improper_rotations():
    net = serial(Lift(group="O3"), Relu(), GroupPool(), quadrature=ProductGrid(16))
    turned = rotate(MIRRORED, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))  # a quarter turn maps the grid to itself
    for both in net.kernel_fn(CHIRAL, concatenate([CHIRAL, turned])):
        kernel, other = np.split(np.asarray(both), 2, axis=1)
        np.testing.assert_allclose(kernel, other, rtol=0, atol=1e-6 * np.abs(kernel).max())  # ReLU's cusp: root of eps


def test_improper_rotations_at_random():
    """Within the error of the grid, which is not what makes them equal."""
    net = serial(Lift(group="O3"), Erf(), GroupPool(), quadrature=ProductGrid(12))
    copies = rotate(MIRRORED[np.zeros(10, int)], random_rotations(10, seed=3))
    kernels = np.stack(net.kernel_fn(CHIRAL[1:], concatenate([CHIRAL[:1], copies])))[:, 0]
    error = np.abs(kernels[:, 1:] / kernels[:, :1] - 1).max()
    assert 1e-9 < error < 3e-4


def test_chiral_molecules():
    """CHFClBr and its mirror image."""
    corners = np.array([[0, 0, 0], [1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    lengths = np.array([1, 1.09, 1.36, 1.77, 1.94])[:, None] / np.sqrt(3)  # Angstrom
    molecule = ase.Atoms("CHFClBr", positions=corners * lengths)
    mirror = ase.Atoms("CHFClBr", positions=corners * lengths * [-1, 1, 1])
    x = environments([molecule, mirror], species=("H", "C", "F", "Cl", "Br"), powers=(2,), bandlimit=4)
    apart = {}
    for group in ("SO3", "O3"):
        layers = Lift(group=group), Erf(), GroupPool(), Dense(), AtomSum(match_species=True)
        kernel = np.asarray(serial(*layers, quadrature=ProductGrid(8)).kernel_fn(x, get="ntk"))
        apart[group] = abs(1 - kernel[0, 1] / kernel[0, 0])
    assert apart["O3"] < 1e-6
    assert apart["SO3"] > 1e-3


def test_fields_hold_both_cosets():
    grid = ProductGrid(4)
    field = serial(Lift(group="O3"), Erf(), quadrature=grid).kernel_fn(CHIRAL)
    pooled = serial(Lift(group="O3"), Erf(), GroupPool(), quadrature=grid).kernel_fn(CHIRAL)
    np.testing.assert_allclose(np.linalg.det(field.motions), np.repeat([1.0, -1.0], len(grid)), atol=1e-12)
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(getattr(field, name) @ field.weights, getattr(pooled, name), atol=100 * EPS)


def test_calibration_measures_both_cosets():
    net = serial(*ARCHITECTURES["tower"]("O3"), rtol=1e-4).calibrate(CHIRAL)
    assert net.quadrature_error(CHIRAL) < 2e-4


def test_unknown_group():
    with pytest.raises(ValueError, match="'SO3' or 'O3'"):
        Lift(group="O2")
