"""The conformance harness: an architecture enters with one constructor and is held to every check below.

The checks are functions of an ``Architecture``; test_conformance.py here and in planar list the architectures and call
them. A ``Domain`` is what the checks need of a geometry. On the sphere the grid is the octahedral group where nothing
else is said: 24 rotations, on which a network is exactly the network trained with that augmentation, so that invariance
and positivity hold to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

import so3ntk
from so3ntk import ExplicitGrid, ProductGrid, SphereSignal
from tests.oracles import field
from tests.oracles.harmonics import rotated, white_signals

BANDLIMIT, CHANNELS = 3, 2
OCTAHEDRAL = ExplicitGrid(Rotation.create_group("O"))
EPS = {np.float64: np.finfo(np.float64).eps, np.float32: np.finfo(np.float32).eps}


@dataclass(frozen=True, eq=False)
class Domain:
    """Signals of one geometry.

    white: ``count`` random signals of a seed, as an array. moved: a signal under a motion that networks are invariant to.
    batch: such an array, in a dtype, as ``kernel_fn`` reads it. evaluate: NNGP and NTK of such an array, slowly.
    """

    white: Callable[[int, int], np.ndarray]
    moved: Callable[[np.ndarray], np.ndarray]
    batch: Callable[[Any, Any], Any]
    evaluate: Callable[[so3ntk.Network, np.ndarray], tuple[np.ndarray, np.ndarray]]
    quadrature: Any = None


def signal(coefficients, dtype=np.float64) -> SphereSignal:
    return SphereSignal(jnp.asarray(coefficients, dtype), round(coefficients.shape[1] ** 0.5))


SPHERE = Domain(
    white=lambda count, seed: white_signals(count, BANDLIMIT, CHANNELS, seed),
    moved=lambda a: rotated(a[None], OCTAHEDRAL.rotations.as_matrix()[7:8])[0, 0],
    batch=signal,
    evaluate=lambda net, a: field.evaluate(net, a, a, OCTAHEDRAL.rotations, OCTAHEDRAL.weights),
    quadrature=OCTAHEDRAL,
)


@dataclass(frozen=True)
class Architecture:
    """build: the network on a given quadrature. depth: nonlinearities; kinked: whether one of them has a kink."""

    name: str
    build: Callable[[Any], Any]
    depth: int = 1
    kinked: bool = False
    domain: Domain = SPHERE

    def on(self, quadrature: Any = None) -> so3ntk.Network:
        return self.build(self.domain.quadrature if quadrature is None else quadrature)

    def batch(self, values: Any, dtype: Any = np.float64) -> Any:
        return self.domain.batch(values, dtype)

    def ntk_error(self, dtype: Any = np.float64) -> float:
        """The rounding error of an NTK: a kink turns eps in the correlation of an aligned pair into its root."""
        return self.depth * 4 * EPS[dtype] ** 0.5 if self.kinked else (1 + self.depth) * 500 * EPS[dtype]

    def nngp_error(self, dtype: Any = np.float64) -> float:
        """The rounding error of an NNGP, whose slope is finite: sums of some hundred terms at each layer."""
        return (1 + self.depth) * 500 * EPS[dtype]


def special_batch(domain: Domain) -> np.ndarray:
    """Generic a, b, c; then a again, -a, zero, a moved by 1e-8, and a under a motion of the group."""
    a, b, c = domain.white(3, 0)
    return np.stack([a, b, c, a, -a, 0 * a, a + 1e-8 * b, domain.moved(a)])


@cache
def gram(architecture: Architecture, dtype=np.float64):
    """Kernels of the special batch with itself, computed once."""
    return architecture.on().kernel_fn(architecture.batch(special_batch(architecture.domain), dtype))


def scale(kernel) -> np.ndarray:
    """sqrt(K(x, x) K(x', x')), with the largest diagonal entry where one of them vanishes."""
    diagonal = np.abs(np.diag(np.asarray(kernel, np.float64)))
    diagonal = np.where(diagonal > 1e-10 * diagonal.max(), diagonal, diagonal.max())
    return np.sqrt(np.outer(diagonal, diagonal))


def assert_kernels(actual, desired, architecture: Architecture, dtype=np.float64, norms=None):
    """Both kernels to the architecture's rounding errors, relative to ``norms`` (the scales of the special batch)."""
    norms = [scale(k) for k in gram(architecture)] if norms is None else norms
    for a, b, norm, error in zip(actual, desired, norms,
                                 (architecture.nngp_error(dtype), architecture.ntk_error(dtype)), strict=True):  # fmt: skip
        np.testing.assert_array_less(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)) / norm, error)


# --- values


def check_same_inputs(architecture: Architecture):
    """x2 = None, x and a copy of x agree; None is symmetric to the bit; equal signals have equal rows."""
    net, values = architecture.on(), special_batch(architecture.domain)
    x, own = architecture.batch(values), gram(architecture)
    for kernel in own:
        np.testing.assert_array_equal(kernel, kernel.T)
    for other in (x, architecture.batch(values.copy())):
        assert_kernels(net.kernel_fn(x, other), own, architecture)
    for kernel in own:
        np.testing.assert_array_equal(kernel[3], kernel[0])


def check_layer_by_layer(architecture: Architecture):
    """The slow evaluation in NumPy (tests/oracles/field.py and images.py)."""
    expected = architecture.domain.evaluate(architecture.on(), special_batch(architecture.domain))
    assert_kernels(gram(architecture), expected, architecture)
    for kernel, slow in zip(gram(architecture), expected, strict=True):  # generic pairs have no root of eps
        np.testing.assert_allclose(kernel[:3, :3] - np.diag(np.diag(kernel[:3, :3])),
                                   slow[:3, :3] - np.diag(np.diag(slow[:3, :3])),
                                   rtol=0, atol=(1 + architecture.depth) * 1e-12 * np.abs(slow).max())  # fmt: skip


def check_positive(architecture: Architecture):
    """No eigenvalue below -1e-12 of the largest, with equal, opposite, zero and rotated signals in the batch.

    Equal rows are equal to the bit. A rotated copy is another computation of the same number; kinks make it differ by
    the root of eps, and -root(eps) is then the bound.
    """
    for kernel, error in zip(gram(architecture), (architecture.nngp_error(), architecture.ntk_error()), strict=True):
        plain = np.linalg.eigvalsh(np.asarray(kernel)[:6, :6])
        assert plain[0] >= -1e-12 * plain[-1]
        values = np.linalg.eigvalsh(kernel)
        assert values[0] >= -(1e-12 + error) * values[-1]


def check_invariance(architecture: Architecture, equivariant: bool = True):
    """A motion of the group leaves every kernel as it is (the last signal is the first one, moved)."""
    kernels = gram(architecture)
    if not equivariant:
        assert np.abs(kernels.ntk[7] - kernels.ntk[0]).max() > 1e-2 * np.abs(kernels.ntk).max()
        return
    # beyond the rounding of the kernel, that of the motion: 1e-15 of a signal
    assert_kernels([k[7] for k in kernels], [k[0] for k in kernels], architecture,
                   norms=[scale(k)[0] for k in kernels])  # fmt: skip


def check_few_rows(architecture: Architecture):
    """One row is that row of the matrix; no rows make an empty matrix of the right dtype."""
    net, x = architecture.on(), architecture.batch(special_batch(architecture.domain))
    norms = [scale(k)[:1] for k in gram(architecture)]
    assert_kernels(net.kernel_fn(x[:1], x), [k[:1] for k in gram(architecture)], architecture, norms=norms)
    for first, second, shape in ((x[:0], None, (0, 0)), (x[:0], x, (0, 8)), (x, x[:0], (8, 0))):
        for kernel in net.kernel_fn(first, second):
            assert (kernel.shape, kernel.dtype) == (shape, np.float64)


def check_single_precision(architecture: Architecture):
    """float32 in, float32 out, and within its rounding error of float64."""
    single = gram(architecture, np.float32)
    assert all(k.dtype == np.float32 for k in single)
    assert all(k.dtype == np.float64 for k in gram(architecture))
    assert_kernels(single, gram(architecture), architecture, np.float32)


# --- transformations and derivatives


def derivatives(architecture: Architecture, dtype, second: bool):
    """(value, gradient) and (jvp, jvp of the gradient if ``second``) of a mixture of both kernels of one pair, under jit and vmap.

    In the signals and in every hyperparameter at once: arguments are (hyperparameters, f, g) and the direction.
    """
    hyperparameters, rest = eqx.partition(architecture.on(), lambda a: isinstance(a, float | np.ndarray | jax.Array))
    hyperparameters = jax.tree.map(lambda a: jnp.asarray(a, dtype), hyperparameters)

    def value(hyperparameters, f, g):
        net = eqx.combine(hyperparameters, rest)
        k = net.kernel_fn(architecture.batch(f[None], dtype), architecture.batch(g[None], dtype))
        return 0.7 * k.nngp[0, 0] + k.ntk[0, 0]

    both = jax.value_and_grad(value, argnums=(0, 1, 2))

    def everything(point, direction):
        if second:
            return jax.jvp(both, point, direction)
        return both(*point), (jax.jvp(value, point, direction)[1], ())

    return hyperparameters, jax.jit(jax.vmap(everything, in_axes=(0, None)))


def check_derivatives(architecture: Architecture, dtype: Any = np.float64, second: bool = True):
    """jit and vmap agree with eager values; derivatives agree with differences; all are finite at special pairs."""
    hyperparameters, everything = derivatives(architecture, dtype, second)
    a, b, *_, moved = special_batch(architecture.domain)
    df, dg = architecture.domain.white(2, 2)
    rng = np.random.default_rng(3)
    dh = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=np.shape(leaf)), dtype), hyperparameters)
    step = 1e-5
    pairs = [(a, b), (a + step * df, b + step * dg), (a - step * df, b - step * dg), (a, a), (a, -a), (0 * a, 0 * a),
             (0 * a, a), (a, a * (1 + 1e-8)), (a, a + 1e-8 * b), (1e6 * a, 1e6 * b), (a, moved)]  # fmt: skip
    f, g = (jnp.asarray(np.stack(signals), dtype) for signals in zip(*pairs, strict=True))
    signs = np.array([0, 1, -1] + [0] * (len(pairs) - 3))
    stacked = jax.tree.map(
        lambda leaf, d: jnp.asarray(np.asarray(leaf) + step * np.multiply.outer(signs, d), dtype), hyperparameters, dh
    )
    (values, gradients), (slopes, curvatures) = everything(
        (stacked, f, g), (dh, jnp.asarray(df, dtype), jnp.asarray(dg, dtype))
    )
    for leaf in jax.tree.leaves((values, gradients, slopes, curvatures)):
        finite = np.isfinite(leaf).reshape(len(pairs), -1).all(axis=1)
        assert finite.all(), f"not finite at pairs {np.flatnonzero(~finite)}"
        assert leaf.dtype == dtype
    if dtype != np.float64:
        return
    eager = gram(architecture)
    np.testing.assert_allclose(values[0], 0.7 * eager.nngp[0, 1] + eager.ntk[0, 1], rtol=1e-11)
    # Central differences: a truncation error of step^2 and a rounding error of eps / step, times some hundred
    assert_slope((values[1] - values[2]) / (2 * step), slopes[0], gradients, dh, df, dg)
    if not second:
        return
    difference, curvature = (np.concatenate([np.ravel(leaf[i] if i is not None else (leaf[1] - leaf[2]) / (2 * step))
                                             for leaf in jax.tree.leaves(tree)])
                             for tree, i in ((gradients, None), (curvatures, 0)))  # fmt: skip
    np.testing.assert_allclose(curvature, difference, rtol=0, atol=1e-7 * np.abs(curvature).max())


def assert_slope(difference, slope, gradients, dh, df, dg):
    """The derivative along the direction: by difference, forwards, and from the reverse-mode gradient."""
    direction = jax.tree.leaves((dh, jnp.asarray(df), jnp.asarray(dg)))
    backwards = sum(np.vdot(g[0], d) for g, d in zip(jax.tree.leaves(gradients), direction, strict=True))
    size = sum(np.abs(np.asarray(g[0]) * d).sum() for g, d in zip(jax.tree.leaves(gradients), direction, strict=True))
    np.testing.assert_allclose(difference, slope, rtol=0, atol=1e-8 * size)
    np.testing.assert_allclose(backwards, slope, rtol=0, atol=1e-12 * size)


# --- tiles, rotations


def check_tiles(architecture: Architecture, n: int = 37):
    """n signals in tiles of 1, 3, 7 and n: symmetric to the bit, and equal to the whole to 8 eps of the scale."""
    x = architecture.batch(architecture.domain.white(n, 4))
    net = architecture.on()
    whole = net.kernel_fn(x)
    for tile in (1, 3, 7, n):
        tiled = so3ntk.gram(net, x, get=("nngp", "ntk"), tile=tile, progress=False)
        for kernel, expected in zip(tiled, whole, strict=True):
            np.testing.assert_array_equal(kernel, kernel.T)
            off = ~np.eye(n, dtype=bool)
            error = np.abs(kernel - np.asarray(expected)) / scale(expected)
            assert error[off].max() <= 8 * EPS[np.float64]
            assert error.max() <= max(8 * EPS[np.float64], architecture.ntk_error())


def check_rotations(architecture: Architecture, linear: bool = False):
    """20 random rotations of either input change the kernels of SO(3) by no more than the quadrature's estimate.

    And the Gram matrix with all of these copies is positive up to that error.
    """
    a, b, c = white_signals(3, BANDLIMIT, CHANNELS, seed=0)
    matrices = so3ntk.random_rotations(20, seed=5).as_matrix()
    copies = rotated(np.stack([a, b]), matrices)
    x = signal(np.concatenate([[a, b, c], copies[:, 0], copies[:3, 1]]))
    net = architecture.on(ProductGrid(8))
    for name, kernel in net.kernel_fn(x)._asdict().items():
        error = 1e-12 if linear else net.quadrature_error(x, get=name)
        assert error < 2e-2  # an estimate that says nothing would hide anything
        relative = np.abs(kernel - np.asarray(kernel)[:1]) / scale(kernel)
        for columns in ([1, 2], [0, *range(3, 23)]):  # with others, and with all copies of itself
            assert relative[3:23, columns].max() <= 3 * error
        both = np.abs(np.asarray([kernel[3 + i, 23 + i] for i in range(3)]) - kernel[0, 1]) / scale(kernel)[0, 1]
        assert both.max() <= 3 * error
        values = np.linalg.eigvalsh(kernel)
        assert values[0] >= -(1e-12 + error) * values[-1]
