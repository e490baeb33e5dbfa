"""Irrep readouts: blocks against an explicit sum over rotations, equivariance, parity, positivity, tilings and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import (
    Dense,
    Erf,
    FanInSum,
    FanOut,
    GroupConv,
    GroupPool,
    IrrepPool,
    KernelRegressor,
    Lift,
    LocalGrid,
    ProductGrid,
    Relu,
    SphereGrid,
    SphereSignal,
    gram,
    kernel_diagonal,
    parallel,
    random_rotations,
    rotate,
    serial,
)
from so3ntk.molecules import AtomSum, Environments
from tests.oracles.harmonics import harmonics, white_signals, wigner

EPS = np.finfo(np.float64).eps
GRID = ProductGrid(8)
VALUES = white_signals(3, 3, 2, seed=0)


def signal(values=VALUES):
    return SphereSignal(jnp.asarray(values), round(values.shape[1] ** 0.5))


def net_of(*layers, grid=GRID):
    return serial(*layers, quadrature=grid)


def copies_of(x, turns):
    """All signals under the first rotation, then under the next: one batch, so that one program has all kernels."""
    rows, motions = np.tile(np.arange(len(x)), len(turns)), np.repeat(np.arange(len(turns)), len(x))
    return rotate(x[rows], turns[motions])


def by_turn(kernel, count):
    """The rows of ``copies_of``, (r, n, ...)."""
    return kernel.reshape(count, -1, *kernel.shape[1:])


def as_matrix(blocks):
    n, m, a, b = blocks.shape
    return np.asarray(blocks).transpose(0, 2, 1, 3).reshape(n * a, m * b)


#: Layers that collapse to one function of the kernel, and layers that do not and end in samples.
BODIES = {
    "tower": lambda group: (Lift(group=group, b_std=0.2), Relu(), GroupConv(b_std=0.1)),
    "spectrum": lambda group: (Lift(group=group), GroupConv(bandlimit=3), Erf()),
}


@pytest.mark.parametrize(
    ("body", "group", "irrep"),
    [
        ("tower", "O3", (1, 1)),
        ("spectrum", "O3", (1, -1)),
    ],
)
def test_explicit_sum_over_rotations(body, group, irrep):
    """The unpooled kernel at each motion, times D^l of scipy's harmonics with D(-R) = p D(R), summed."""
    layers, x = BODIES[body](group), signal()
    field = net_of(*layers).kernel_fn(x, x[:2])
    matrices, weights = np.asarray(field.motions), np.asarray(field.weights)
    improper = np.linalg.det(matrices) < 0
    degree, parity = irrep
    table = wigner(np.where(improper[:, None, None], -matrices, matrices), degree)
    table[improper] *= (-1) ** degree if parity is None else parity
    found = net_of(*layers, IrrepPool(degree, parity)).kernel_fn(x, x[:2])
    for kernel, values in zip(found, field[:2], strict=True):
        expected = np.einsum("nmr,r,rab->nmab", values, weights, table, optimize=True)
        np.testing.assert_allclose(kernel, expected, rtol=0, atol=2000 * EPS * np.abs(values).max())


def test_linear_network_is_equivariant_from_both_sides():
    """20 rotations, l = 1 and 4: K(R f, f') = D K(f, f') and K(f, R f') = K(f, f') D^T, to rounding."""
    x = signal(white_signals(2, 5, 2, seed=1))
    turns = random_rotations(20, seed=2)
    both = so3ntk.concatenate([x, copies_of(x, turns)])
    for degree in (1, 4):
        net, tables = serial(Lift(), GroupConv(), IrrepPool(degree)), wigner(turns.as_matrix(), degree)
        kernel = np.asarray(net.kernel_fn(both, both, "ntk"))
        plain, size = kernel[:2, :2], np.abs(kernel[:2, :2]).max()
        left, right = by_turn(kernel[2:, :2], 20), by_turn(kernel[:2, 2:].swapaxes(0, 1), 20).swapaxes(1, 2)
        np.testing.assert_allclose(left, np.einsum("rab,nmbc->rnmac", tables, plain), rtol=0, atol=1e-12 * size)
        np.testing.assert_allclose(right, np.einsum("nmab,rcb->rnmac", plain, tables), rtol=0, atol=1e-12 * size)


def test_nonlinear_network_is_equivariant_to_the_quadrature_error():
    x, turns, degree = signal(), random_rotations(20, seed=3), 2
    net = net_of(Lift(), Erf(), IrrepPool(degree), Dense(), grid=ProductGrid(16))
    kernel = np.asarray(net.kernel_fn(so3ntk.concatenate([x, copies_of(x, turns)]), x, "ntk"))
    error, plain, left = net.quadrature_error(x), kernel[:3], by_turn(kernel[3:], 20)
    size = np.trace(plain[range(3), range(3)], axis1=1, axis2=2).max()
    assert error < 1e-3
    expected = np.einsum("rab,nmbc->rnmac", wigner(turns.as_matrix(), degree), plain)
    assert np.abs(left - expected).max() < (3 * error + 1e-12) * size
    apart = np.abs(left - plain).reshape(20, -1).max(axis=1)
    assert apart.min() > 0.1 * np.abs(plain).max()  # each rotation does turn it


def test_improper_rotations_and_parity():
    """Polar vectors and pseudoscalars under the inversion; axial vectors: the explicit sum."""
    values = VALUES * np.repeat([1.0, -1.0, 1.0], [1, 3, 5])[:, None]
    x, both = signal(), signal(np.concatenate([VALUES, values]))
    for degree, parity in ((1, None), (0, -1)):
        net = net_of(Lift(group="O3"), Relu(), IrrepPool(degree, parity))
        plain, other = np.split(np.asarray(net.kernel_fn(x, both, "ntk")), 2, axis=1)
        np.testing.assert_allclose(other, -plain, rtol=0, atol=4 * EPS**0.5 * np.abs(plain).max())
        assert np.abs(plain).max() > 1e-6


def test_degree_zero_is_the_mean():
    layers = BODIES["spectrum"]("SO3")
    pooled, blocks = (
        net_of(*layers, pool, Dense(b_std=0.3)).kernel_fn(signal()) for pool in (GroupPool(), IrrepPool(0))
    )
    for mean, block in zip(pooled, blocks, strict=True):
        np.testing.assert_allclose(block[..., 0, 0], mean, rtol=0, atol=500 * EPS)


def test_filters_on_caps():
    """At pi blocks are those of global filters, the parity minded too; below they are other ones."""
    x, grid = signal(VALUES[:2]), LocalGrid(ProductGrid(4), SphereGrid(6))

    def kernels(group, parity, support):
        body = Lift(group=group, support=support), Erf(), IrrepPool(1, parity), Dense()
        return np.stack(net_of(*body, grid=grid if support else ProductGrid(4)).kernel_fn(x, x))

    for group, parity in (("O3", 1), ("O3", None)):
        whole, cap = (kernels(group, parity, support) for support in (None, np.pi - 1e-11))
        size = np.abs(whole).max(axis=(1, 2, 3, 4), keepdims=True)
        assert np.all(np.abs(cap - whole) <= 1e-9 * np.maximum(size, 1e-3))
    small = kernels(group, parity, 1.0)
    assert np.all(np.abs(small - whole).max(axis=(1, 2, 3, 4)) > 1e-3 * size.ravel())


def test_cartesian_order_and_tensors():
    """A signal f(x) = v.x turns into K = v v'^T times a constant in the order x, y, z; t_ab x_a x_b likewise for l = 2."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    basis = harmonics(points, range(3))
    vectors, tensors = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 3))
    tensors = tensors + tensors.transpose(0, 2, 1)
    tensors -= np.trace(tensors, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    for degree, of, samples in (
        (1, vectors, vectors @ points.T),
        (2, tensors.reshape(2, 9), np.einsum("nab,xa,xb->nx", tensors, points, points)),
    ):
        coefficients = np.linalg.lstsq(basis, samples.T, rcond=None)[0].T
        kernel = net_of(Lift(), IrrepPool(degree, basis="cartesian")).kernel_fn(
            signal(coefficients[..., None]), None, "nngp"
        )
        ratio = np.asarray(kernel) / np.einsum("na,mb->nmab", of, of)
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-10)
        assert ratio.flat[0] > 0


def environments():
    return Environments(signal(white_signals(7, 3, 2, seed=5)), [0, 0, 1, 1, 1, 2, 2], [1, 6, 1, 6, 6, 1, 8])


def test_sums_over_atoms_and_the_diagonal():
    """Blocks of molecules are sums of those of atoms, of like elements where these are matched."""
    x = environments()
    body = Lift(), Relu(), IrrepPool(1)
    nngp, ntk = net_of(*body).kernel_fn(x.signal)
    for match in (False, True):
        net = net_of(*body, AtomSum(match_species=match), Dense())
        same = (x.numbers[:, None] == x.numbers) | (not match)
        owner = np.equal.outer(np.arange(3), np.asarray(x.molecule)).astype(float)
        expected = np.einsum("pi,ijab,ij,qj->pqab", owner, nngp + ntk, same, owner)
        found = np.asarray(net.kernel_fn(x, None, "ntk"))
        np.testing.assert_allclose(found, expected, rtol=0, atol=500 * EPS * np.abs(expected).max())
        np.testing.assert_allclose(kernel_diagonal(net, x), found[range(3), range(3)], rtol=0, atol=500 * EPS)
    traced = jax.jit(lambda c: net.kernel_fn(Environments(SphereSignal(c, 3), x.molecule, x.numbers), None, "ntk"))
    np.testing.assert_allclose(traced(x.signal.coefficients), found, rtol=0, atol=500 * EPS)


def test_tiles_and_symmetry():
    x = signal(white_signals(9, 3, 2, seed=6))
    net = net_of(Lift(), Relu(), IrrepPool(1))
    whole = gram(net, x, progress=False)
    for tile in (1, 4, 9):
        tiled = gram(net, x, tile=tile, progress=False)
        np.testing.assert_array_equal(as_matrix(tiled), as_matrix(tiled).T)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=8 * EPS * np.abs(whole).max())
    np.testing.assert_allclose(gram(net, x[:4], x, progress=False), whole[:4], rtol=0, atol=50 * EPS)


def test_positive_semi_definite():
    """With duplicates and turned copies, to the quadrature's error."""
    turns = random_rotations(2, seed=7).as_matrix()
    copies = [signal(), signal(VALUES[:1]), *(rotate(signal(VALUES[:1]), turn) for turn in turns)]
    x = so3ntk.concatenate(copies)
    net = net_of(Lift(), Erf(), IrrepPool(2, basis="cartesian"), grid=ProductGrid(12))
    for name, blocks in net.kernel_fn(x)._asdict().items():
        values, trace = np.linalg.eigvalsh(as_matrix(blocks)), np.trace(as_matrix(blocks))
        # The eigenvalues of an error E are at most its Frobenius norm, here of traces times the relative error.
        error = 2 * net.quadrature_error(x, get=name, signals=6)
        assert error < 1e-2
        assert -error * trace < values[0] < 1e-3 * trace


def test_derivatives():
    """In the signals, through the collapsed layers and through tiles, against finite differences."""
    net, step = net_of(Lift(), Erf(), IrrepPool(1)), 1e-4
    x, direction = signal(VALUES[:2]), jnp.asarray(white_signals(2, 3, 2, seed=8))
    at = lambda t: net.kernel_fn(SphereSignal(x.coefficients + t * direction, 3), signal(VALUES[2:]), "ntk")  # noqa: E731
    tangent = jax.jit(lambda t: jax.jvp(at, (t,), (1.0,))[1])(0.0)
    np.testing.assert_allclose(tangent, (at(step) - at(-step)) / (2 * step), rtol=0, atol=1e-7)


def test_branches():
    """The sum of independent branches has the sum of their blocks."""
    x, arms = signal(), [(Lift(), Relu(), IrrepPool(1)), (Lift(), Erf(), IrrepPool(1))]
    both = net_of(FanOut(2), parallel(*(serial(*arm) for arm in arms)), FanInSum())
    for kernel, *parts in zip(both.kernel_fn(x), *(net_of(*arm).kernel_fn(x) for arm in arms), strict=True):
        np.testing.assert_allclose(kernel, sum(parts), rtol=0, atol=1e-7)  # the kink, where layers are not collapsed


def test_error_estimate_and_calibration():
    x = signal()
    net = serial(Lift(), Erf(), IrrepPool(2), rtol=1e-4)
    coarse, fine = (net_of(Lift(), Erf(), IrrepPool(2), grid=ProductGrid(n)) for n in (8, 24))
    a, b = (np.asarray(n.kernel_fn(x, None, "ntk")) for n in (coarse, fine))
    traces = np.trace(b[range(3), range(3)], axis1=1, axis2=2)
    traces = np.maximum(traces, traces.mean())
    measured = (np.linalg.norm(a - b, axis=(2, 3)) / np.sqrt(np.outer(traces, traces))).max()
    assert 0.5 * measured < coarse.quadrature_error(x) < 2 * measured
    assert net.calibrate(x).quadrature_error(x) < 2e-4


# --- bad input


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((Lift(), IrrepPool(1), Relu()), "nonlinearity after IrrepPool"),
        ((Lift(), Relu(), IrrepPool(1), Dense(b_std=0.1)), "a bias after IrrepPool"),
        ((Lift(), GroupConv(bandlimit=2), IrrepPool(1), Dense(b_std=0.1)), "a bias after IrrepPool"),
        ((Lift(), Relu(), IrrepPool(1), GroupConv()), "no longer functions on a group"),
        ((Lift(), Relu(), IrrepPool(1), GroupPool()), "GroupPool"),
        ((Lift(), Relu(), IrrepPool(1, parity=-1)), 'Lift\\(group="O3"\\)'),
        ((Lift(), IrrepPool(3)), "zero for all inputs"),
        ((Lift(), Relu(), GroupConv(bandlimit=2), IrrepPool(2)), r"GroupConv\(bandlimit=2\)"),
    ],
)
def test_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        net_of(*layers).kernel_fn(signal())


@pytest.mark.parametrize(
    ("arguments", "message"), [((-1,), "integer"), ((1.5,), "integer"), ((1, 2), "parity"), ((3, None, "cartesian"), "l = 3"),
                               ((1, None, "xyz"), "basis")]
)  # fmt: skip
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IrrepPool(*arguments)


def test_scalar_estimators_refuse_blocks():
    with pytest.raises(ValueError, match="TensorKernelRegressor"):
        KernelRegressor(net_of(Lift(), Relu(), IrrepPool(1))).fit(signal(), np.zeros(3))


def test_finite_networks_refuse_the_same():
    for layer, message in ((Relu(), "nonlinearity after"), (Dense(2, b_std=0.1), "a bias after")):
        net = net_of(Lift(width=4), IrrepPool(1), layer)
        with pytest.raises(ValueError, match=message):
            net.init_fn(jax.random.key(0), (1, 9, 2))


def finite(width, basis):
    return Lift(width=width, b_std=0.3), Erf(), IrrepPool(1, basis=basis), Dense(width, W_std=1.3)


def test_finite_networks_are_equivariant():
    x, turn = signal(VALUES[:2]), random_rotations(1, seed=9).as_matrix()
    both = so3ntk.concatenate([x, rotate(x, turn[0])])
    nets = [net_of(*finite(4, basis), grid=ProductGrid(24)) for basis in ("real", "cartesian")]
    shape, params = nets[0].init_fn(jax.random.key(0, impl="unsafe_rbg"), x.shape)
    assert shape == (2, 3, 4)
    outputs = jax.jit(lambda params: [net.apply_fn(params, both) for net in nets])(params)
    for values, table in zip(outputs, (wigner(turn, 1)[0], turn[0]), strict=True):
        plain, turned = np.split(values, 2)
        np.testing.assert_allclose(turned, np.einsum("ab,nbc->nac", table, plain), atol=1e-4 * np.abs(plain).max())


@pytest.mark.slow
def test_finite_network():
    """Products of outputs over many channels average to the kernel's blocks."""
    x, draws = signal(VALUES[:2]), 150
    net = net_of(*finite(64, "cartesian"))

    def products(key):
        outputs = net.apply_fn(net.init_fn(key, x.shape)[1], x)
        return jnp.einsum("iac,jbc->ijab", outputs, outputs) / outputs.shape[-1]

    keys = jax.random.split(jax.random.key(1, impl="unsafe_rbg"), draws)  # whose program compiles fastest
    values = np.asarray(jax.lax.map(products, keys))
    error = values.std(axis=0) / draws**0.5
    kernel = np.asarray(net.kernel_fn(x, None, "nngp"))
    assert np.all(np.abs(values.mean(axis=0) - kernel) < 5 * error)
    assert np.abs(1.3 * kernel - values.mean(axis=0)).max() > 5 * error.max()


def test_block_of_a_band_limited_convolution():
    """Read from coefficients, without samples: K^1_mn = v_1 mean_c a_1m b_1n / (4 pi (2 l + 1))."""
    net = serial(Lift(), GroupConv(variances=np.array([1.0, 0.7])), IrrepPool(1), quadrature=ProductGrid(4))
    a = white_signals(2, 3, 2, seed=8)
    expected = 0.7 * np.einsum("imc,jnc->ijmn", a[:, 1:4], a[:, 1:4]) / (2 * 4 * np.pi * 3)
    found = net.kernel_fn(SphereSignal(jnp.asarray(a), 3), get="nngp")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15 * np.abs(expected).max() * 16)
