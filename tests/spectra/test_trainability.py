"""Fixed points, depth scales and asymptotes: against closed forms, slow quadrature, extended precision, and layers themselves."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import planar.geometry
import so3ntk
from so3ntk.engine.state import State
from so3ntk.spectra import phase_diagram, trainability
from so3ntk.spectra.asymptotes import expanded
from so3ntk.spectra.block import block_of
from so3ntk.spectra.deep_networks import kernels_at, modes_of
from so3ntk.spectra.fixed_points import fixed_points
from so3ntk.spectra.modes import mode_labels
from so3ntk.sphere.harmonics import real_harmonics
from so3ntk.sphere.local_support import LocalSphereGeometry
from so3ntk.sphere.positions import SphereGrid
from tests.engine.activations.cases import CASES

B = 0.05**0.5
EXTENDED = np.longdouble


def points_of(layer, W_std=None, b_std=None):
    return fixed_points(block_of(layer, W_std, b_std, "test"))


class ErfRecursion:
    """The arcsine kernel of erf (Williams 1997), in extended precision: K, Theta and their maps, by scalars."""

    def __init__(self, w2, b2):
        self.w2, self.b2 = EXTENDED(w2), EXTENDED(b2)
        q = EXTENDED(1)
        for _ in range(300):
            q = self.kernel(q, q)
        self.q = q

    def kernel(self, c, q):
        return self.w2 * 2 / EXTENDED(np.pi) * np.arcsin(2 * c / (1 + 2 * q)) + self.b2

    def slope(self, c, q):
        return self.w2 * 4 / EXTENDED(np.pi) / np.sqrt((1 + 2 * q) ** 2 - 4 * c * c)

    def correlation(self):
        c = 0.5 * self.q
        for _ in range(4000):
            c = self.kernel(c, self.q)
        return c / self.q

    def thetas(self, inputs, depth):
        """The tangent kernel of inputs of variance one after each layer."""
        kernel = inputs.astype(EXTENDED) * self.q
        np.fill_diagonal(kernel, self.q)
        theta = kernel.copy()
        for _ in range(depth):
            slope, kernel = self.slope(kernel, self.q), self.kernel(kernel, self.q)
            theta = kernel + slope * theta
            yield theta

    def theta(self, inputs, depth):
        *_, last = self.thetas(inputs, depth)
        return last

    def conditioning(self, inputs, depths):
        """kappa and the mean predictor on centred targets."""
        found = {}
        for depth, theta in enumerate(self.thetas(inputs, max(depths)), 1):
            if depth in depths:
                weights = solve(theta[:-1, :-1], theta[:-1, -1])
                found[depth] = condition(theta[:-1, :-1]), float(np.sqrt(np.sum((weights - weights.mean()) ** 2)))
        return found


def solve(matrix, right):
    """Cholesky, in the matrix's precision, which LAPACK does not have."""
    n = len(matrix)
    factor = np.zeros_like(matrix)
    for j in range(n):
        factor[j, j] = np.sqrt(matrix[j, j] - factor[j, :j] @ factor[j, :j])
        factor[j + 1 :, j] = (matrix[j + 1 :, j] - factor[j + 1 :, :j] @ factor[j, :j]) / factor[j, j]
    x = right.copy()
    for j in range(n):
        x[j] = (x[j] - factor[j, :j] @ x[:j]) / factor[j, j]
    for j in reversed(range(n)):
        x[j] = (x[j] - factor[j + 1 :, j] @ x[j + 1 :]) / factor[j, j]
    return x


def condition(matrix):
    """In double precision, which holds it below 1e6."""
    values = np.linalg.eigvalsh(matrix.astype(float))
    return values[-1] / values[0]


@pytest.mark.parametrize(("w2", "printed"), [
    (1.25, (0.43517, 1.0, 0.96137, 0.96137, 25.4)),
    (1.5, (0.60175, 0.82053, 1.03470, 0.96955, 32.3)),
])  # fmt: skip
def test_erf_against_its_closed_form(w2, printed):
    found, exact = trainability(so3ntk.Erf(), w2**0.5, B, depths=[0]), ErfRecursion(w2, 0.05)
    q, c = exact.q, exact.correlation()
    slopes = exact.slope(q, q), exact.slope(c * q, q)
    values = found.q_star, found.c_star, found.chi_1, found.chi_c, found.depth_c
    np.testing.assert_allclose(values[:4], np.array([q, c, *slopes], float), rtol=1e-10)
    assert abs(found.depth_c / float(-1 / np.log(slopes[1])) - 1) < 1e-8
    for value, digits in zip(values, printed, strict=True):
        assert abs(value - digits) <= 0.6 * 10.0 ** -len(
            str(digits).partition(".")[2].ljust(5 if digits < 20 else 1, "0")
        )
    assert found.phase == ("ordered" if w2 < 1.3 else "chaotic")
    edge = ErfRecursion(found.edge**2, 0.05)
    assert abs(float(edge.slope(edge.q, edge.q)) - 1) < 1e-9
    assert abs(found.edge**2 - 1.3758) < 1e-4


@pytest.mark.parametrize("w2", [1.25, 1.5])
def test_the_rates_are_those_of_the_recursion(w2):
    """Leading terms: the factor of a layer, from 80 on. Expanded: its logarithm, and the values, from 80 on too."""
    depths = (80, 81, 120, 121, 200, 201, 300, 301)
    vectors = np.random.default_rng(5).normal(size=(7, 9))
    inputs = vectors @ vectors.T / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors, axis=1)[:, None]
    exact = ErfRecursion(w2, 0.05)
    kernel = inputs * float(exact.q)
    found = trainability(so3ntk.Erf(), w2**0.5, B, (*depths[:-2], 220), inputs=(kernel + kernel.T) / 2)
    slow = exact.conditioning(inputs, depths)
    shift = 1 if w2 > 1.3 else 0  # in the chaotic phase kappa goes to one
    for i in (0, 2, 4):
        values = np.array(slow[depths[i]]) - [shift, 0], np.array(slow[depths[i + 1]]) - [shift, 0]
        np.testing.assert_allclose([found.condition[i], found.mean_predictor[i]], slow[depths[i]], rtol=1e-6)
        factors = values[1] / values[0]
        leading = [law.factor(depths[i]) for law in found.laws[:2]]
        np.testing.assert_allclose(leading, factors, rtol=0.02)
        predicted = found.condition_predicted[i : i + 2] - shift, found.mean_predictor_predicted[i : i + 2]
        rates = [np.log(pair[1] / pair[0]) for pair in predicted]
        compared = 1 + shift  # in the ordered phase P tends to a constant: its factor is one to 1e-3
        np.testing.assert_allclose(rates[:compared], np.log(factors)[:compared], rtol=0.01)
        np.testing.assert_allclose(rates[1], np.log(factors)[1], atol=5e-4)
    assert found.matched == 220
    block, points = block_of(so3ntk.Erf(), w2**0.5, B, "test"), points_of(so3ntk.Erf(), w2**0.5, B)
    ((kernel, theta),) = kernels_at(block, (kernel + kernel.T) / 2, (220,))
    deep = expanded(block, points, kernel, theta, np.array([80.0, 81.0]))
    for beyond, values in zip(deep, (slow[300], slow[301]), strict=True):
        np.testing.assert_allclose(
            [beyond.condition - shift, beyond.centred], [values[0] - shift, values[1]], rtol=1e-4
        )


def test_inputs_that_are_alike_in_a_chaotic_network():
    """They leave another fixed point late: where the expansion does not hold yet there is none, and no pole."""
    inputs = 0.99 + 0.01 * np.eye(4)
    inputs[3, :3] = inputs[:3, 3] = (0.1, 0.1, 0.11)
    found = trainability(so3ntk.Erf(), 1.5**0.5, B, [58, 100, 200, 400], inputs=inputs)
    assert np.isnan(found.condition_predicted[0])
    np.testing.assert_allclose(found.condition_predicted[1] - 1, found.condition[1] - 1, rtol=0.03)
    np.testing.assert_allclose(found.condition_predicted[2] - 1, found.condition[2] - 1, rtol=1e-4)
    np.testing.assert_allclose(found.mean_predictor_predicted[2], found.mean_predictor[2], rtol=1e-4)
    early = trainability(so3ntk.Erf(), 1.5**0.5, B, [50, 60], inputs=inputs)  # first order alone for such inputs
    assert early.condition_predicted[0] > early.condition_predicted[1] > 1


@pytest.mark.parametrize("case", [case for case in CASES if str(case) in ("Gelu", "Sin", "Relu")], ids=str)
def test_fixed_points_of_activations_by_slow_quadrature(case):
    W, b = (1.2, 0.4) if case.homogeneity is None else (0.9, 0.4)
    found = points_of(case.activation, W, b)
    q, c = found.q_star, found.c_star * found.q_star
    assert abs(W**2 * case.expect(q, q, q) + b**2 - q) < 1e-7 * q
    assert abs(W**2 * case.expect_slopes(q, q, q) - found.chi_1) < 1e-6
    if found.c_star < 1:
        assert abs(W**2 * case.expect(c, q, q) + b**2 - c) < 1e-7 * q
        assert abs(W**2 * case.expect_slopes(c, q, q) - found.chi_c) < 1e-6


def test_relu():
    """Its critical point is exact, q* a quotient; correlations do not see W_std without a bias."""
    critical = trainability(so3ntk.Relu(), math.sqrt(2), depths=[2000])
    assert critical.phase == "critical"
    assert trainability(so3ntk.Relu(), depths=[0]).edge == math.sqrt(2)
    assert math.isnan(critical.q_star)
    assert math.isinf(critical.depth_1)
    assert critical.c_star == 1.0
    np.testing.assert_allclose(critical.condition, (8 + 3) / 3, rtol=0.01)
    assert critical.laws.condition.limit == 11 / 3
    ordered = trainability(so3ntk.Relu(), 1.1, 0.3, depths=[20, 36, 40])
    np.testing.assert_allclose(ordered.q_star, 0.09 / (1 - 1.21 / 2), rtol=1e-12)
    assert ordered.matched == 40
    np.testing.assert_allclose(ordered.condition_predicted[1], ordered.condition[1], rtol=0.01)
    np.testing.assert_allclose(
        ordered.condition[2] / ordered.condition[1], ordered.chi_1**-2, rtol=0.01
    )  # half the exponent
    assert points_of(so3ntk.Relu(), 1.5, 0.1).phase == "unbounded"
    assert points_of(so3ntk.Relu(), 0.9).q_star == 0
    np.testing.assert_allclose(trainability(so3ntk.Relu(), 0.9, depths=[2000]).condition, critical.condition, rtol=1e-9)


def test_erf_at_criticality():
    edge = trainability(so3ntk.Erf(), 1.2, 0.2, depths=[0]).edge
    found = trainability(so3ntk.Erf(), edge, 0.2, depths=[500, 4000])
    assert found.phase == "critical"
    assert found.laws.condition.limit == (8 + 2) / 2
    np.testing.assert_allclose(found.condition[-1], 5.0, rtol=0.01)
    np.testing.assert_allclose(found.constant_predictor[-1], 8 / 10, rtol=0.01)
    np.testing.assert_allclose(found.mean_predictor[0] / found.mean_predictor[1], 8, rtol=0.1)


def test_residual_blocks():
    """q <- a^2 q + W^2 V(q) + b^2, likewise slopes: by a loop."""
    block = so3ntk.serial(
        so3ntk.FanOut(2),
        so3ntk.parallel(so3ntk.serial(so3ntk.Erf(), so3ntk.Dense(W_std=1.3, b_std=0.2)), so3ntk.Dense(W_std=0.6)),
        so3ntk.FanInSum(),
    )
    erf, q, c = ErfRecursion(1.69, 0.04), EXTENDED(1), EXTENDED(0.3)
    for _ in range(2000):
        q, c = 0.36 * q + erf.kernel(q, q), 0.36 * c + erf.kernel(c, q)
    found = points_of(block)
    expected = q, c / q, 0.36 + erf.slope(q, q), 0.36 + erf.slope(c, q)
    np.testing.assert_allclose(found[:4], np.array(expected, float), rtol=1e-10)
    whole = trainability(block, depths=[3])
    assert math.isnan(whole.edge)
    assert points_of(block_with(block, whole.edge_factor)).phase == "critical"


def block_with(block, factor):
    return so3ntk.serial(*block_of(block, None, None, "test").scaled(factor).layers)


def test_other_ends():
    assert points_of(so3ntk.Erf(), 0.5).q_star == 0  # below criticality without a bias
    np.testing.assert_allclose(points_of(so3ntk.Erf(), 0.5).chi_1, 0.25 * 4 / np.pi, rtol=1e-9)
    assert points_of(so3ntk.Erf(), 2.0).c_star == 0.0  # odd
    sign = points_of(so3ntk.Sign(), 1.2, 0.1)
    assert (sign.q_star, sign.chi_1, sign.phase) == (1.45, math.inf, "chaotic")
    c = sign.c_star
    np.testing.assert_allclose(1.44 * 2 / np.pi * math.asin(c) + 0.01, 1.45 * c, rtol=1e-12)
    products = points_of(so3ntk.Products([0.1, 0.5, 0.1]), 0.9, 0.1)
    roots = np.roots([0.081, 0.81 * 0.5 - 1, 0.81 * 0.1 + 0.01])
    np.testing.assert_allclose(products.q_star, roots.min(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"no variance that attracts: those below 0\.3333 vanish"):
        trainability(so3ntk.Monomial(2))


def test_a_network_is_its_block():
    """kappa at depth two is that of the network's own kernel, of inputs after its first layer."""
    x = jnp.asarray(np.random.default_rng(2).normal(size=(6, 5)))
    layers = [layer for _ in range(3) for layer in (so3ntk.Dense(8, W_std=1.3, b_std=0.2), so3ntk.Gelu())]
    net = so3ntk.serial(so3ntk.Flatten(), *layers, so3ntk.Dense(1, W_std=1.3, b_std=0.2))
    first = 1.69 * x @ x.T / 5 + 0.04
    found = trainability(net, depths=[3], inputs=first)
    assert repr(found.block) == "Gelu() → Dense(W_std=1.3, b_std=0.2)"
    theta = np.asarray(net.kernel_fn(x, None, "ntk"))
    np.testing.assert_allclose(found.condition[0], np.linalg.cond(theta[:-1, :-1]), rtol=1e-9)
    np.testing.assert_allclose(
        found.constant_predictor[0], np.linalg.solve(theta[:-1, :-1], theta[:-1, -1]).sum(), rtol=1e-9
    )
    conv = so3ntk.GroupConv(support=0.5)
    local = so3ntk.serial(
        so3ntk.Lift(support=0.5), so3ntk.Erf(), conv, so3ntk.Erf(), so3ntk.GroupPool(), so3ntk.Dense()
    )
    assert block_of(local, None, None, "test").layers[1].support == 0.5
    shallow = so3ntk.serial(so3ntk.Lift(W_std=1.4, b_std=0.1), so3ntk.Erf(), so3ntk.GroupPool())
    assert repr(block_of(shallow, None, 0.2, "test")) == "Erf(a=1, b=1, c=0) → Dense(W_std=1.4, b_std=0.2)"
    layers = [so3ntk.Relu(), so3ntk.GroupConv(), so3ntk.Relu(), so3ntk.GroupConv(W_std=2.0), so3ntk.Relu()]
    uneven = so3ntk.serial(so3ntk.Lift(), *layers, so3ntk.GroupPool())
    with pytest.raises(ValueError, match="repeats one block, got hidden layers that differ"):
        trainability(uneven)


def test_degrees_of_caps_layer_by_layer():
    """A field c* + small harmonics through the layers themselves: each degree falls by its own factor, and variances by theirs."""
    conv, erf, grid = so3ntk.GroupConv(support=0.9, W_std=1.5**0.5, b_std=B), so3ntk.Erf(), SphereGrid(16)
    block = block_of(so3ntk.serial(conv, erf), None, None, "test")
    found = fixed_points(block)
    modes, q = modes_of(block, found, 6), found.q_star
    harmonics = real_harmonics(grid.directions, 6)
    shape, ones = (8, -1, 1, 1), np.ones(len(grid))
    geometry, step = LocalSphereGeometry(grid, jnp.ones(1)), eqx.filter_jit(lambda state: conv(erf(state)))
    for about, factors in ((found.c_star * q, modes.factor), (None, modes.variance_factor)):
        bump = 1e-4 * harmonics.sum(axis=1)
        kernel = ones * (found.c_star * q) if about is None else about + bump
        variance = q + bump if about is None else q * ones
        fields = [jnp.asarray(a).reshape(shape) for a in (kernel, kernel, variance, variance)]
        state = State(geometry, *fields)
        for _ in range(3):
            before, state = state, step(state)
        values = [np.asarray(s.variance1 if about is None else s.nngp).ravel() for s in (before, state)]
        coefficients = [harmonics.T @ (grid.weights * v) for v in values]
        for degree in range(1, 6):
            at = slice(degree**2, (degree + 1) ** 2)
            measured = coefficients[1][at] @ coefficients[0][at] / (coefficients[0][at] @ coefficients[0][at])
            assert abs(measured / factors[degree] - 1) < 0.02
    np.testing.assert_allclose(modes.depth, -1 / np.log(np.abs(modes.factor)), rtol=1e-12)
    np.testing.assert_allclose(modes.factor[0], found.chi_c, rtol=1e-12)


def test_fourier_modes_of_windows_layer_by_layer():
    conv, erf, n = planar.GroupConv((3, 3), W_std=1.5**0.5, b_std=B), so3ntk.Erf(), 6
    block = block_of(so3ntk.serial(erf, conv), None, None, "test")
    found = fixed_points(block)
    modes, q, rows = modes_of(block, found, n), found.q_star, np.arange(n)
    step = eqx.filter_jit(lambda state: conv(erf(state)))
    for label, factor in zip(modes.labels, modes.factor, strict=True):
        wave = np.cos(2 * np.pi * (label[0] * rows[:, None] + label[1] * rows[None]) / n)
        field = jnp.asarray(found.c_star * q + 1e-5 * wave)
        geometry = planar.geometry.LocalGeometry(jnp.array([1, 2]), (n, n), (n, n), 1)
        state = step(State(geometry, field, field, q * jnp.ones((n, n)), q * jnp.ones((n, n))))
        measured = np.sum(wave * (np.asarray(state.nngp) - found.c_star * q)) / np.sum(wave * 1e-5 * wave)
        assert abs(measured - factor) < 1e-4
    assert mode_labels(planar.GroupConv((3, 3), "SAME").filter, 4) == ()


def test_phase_diagram(tmp_path):
    diagram = phase_diagram(so3ntk.Erf(), [0.8, 1.4], [0.0, 0.3])
    for i, b in enumerate(diagram.b_std):
        for j, w in enumerate(diagram.W_std):
            exact = points_of(so3ntk.Erf(), w, b)
            assert (diagram.q_star[i, j], diagram.chi_1[i, j], diagram.phase[i, j]) == (
                exact.q_star,
                exact.chi_1,
                exact.phase,
            )
    np.testing.assert_allclose(diagram.edge[0], (np.pi / 4) ** 0.5, rtol=1e-6)  # q* = 0, slope 4/pi
    edge = ErfRecursion(diagram.edge[1] ** 2, 0.09)
    np.testing.assert_allclose(float(edge.slope(edge.q, edge.q)), 1, rtol=1e-8)
    assert diagram.plot(tmp_path / "diagram.png").stat().st_size > 1000
    found = trainability(so3ntk.Erf(), 1.3, 0.3, depths=[1, 20])
    assert found.plot(tmp_path / "depth.png").stat().st_size > 1000
    assert "chaotic" in str(found)
    assert "2 chaotic" in repr(diagram)


@pytest.mark.parametrize(("arguments", "message"), [
    ((so3ntk.Erf(), 0.0), r"trainability: expected W_std, a standard deviation, to be finite and above 0 .*got 0\.0"),
    ((so3ntk.Erf(), -1.0), r"expected W_std.*got -1\.0"),
    ((so3ntk.Erf(), 1.0, -0.1), r"expected b_std.*at least 0, got -0\.1"),
    ((so3ntk.Erf(), float("nan")), "expected W_std to be 0 or of a size"),
    ((so3ntk.Erf(), 1.0, 0.1, [10**6 + 1]), "at most 1,000,000 layers, got 1,000,001"),
    ((so3ntk.Erf(), 1.0, 0.1, []), "expected at least one depth, got none"),
    ((so3ntk.Erf(), 1.0, 0.1, [-1]), "depths to be integers of at least 0, got -1"),
    ((so3ntk.Erf(), 1.0, 0.1, [1.5]), r"got 1\.5"),
    ((so3ntk.serial(so3ntk.Erf(), so3ntk.GroupConv(bandlimit=3)),), "GroupConv does not"),
    ((so3ntk.serial(so3ntk.Erf(), so3ntk.Dense(W_std=-1.0)),), "expected W_std"),
])  # fmt: skip
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        trainability(*arguments)


def test_very_deep_networks_are_predicted():
    """From seven depth scales on by the expanded recursion; a million layers take no longer."""
    found = trainability(so3ntk.Erf(), 1.25**0.5, B, depths=[1, 300, 10**6])
    shallow = trainability(so3ntk.Erf(), 1.25**0.5, B, depths=[1, 300])
    assert found.matched == shallow.matched == 300
    assert np.isnan(found.condition[2])
    assert found.condition_predicted[2] == np.inf
    vectors = np.random.default_rng(6).normal(size=(5, 5))
    inputs = vectors @ vectors.T / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors, axis=1)[:, None]
    exact = ErfRecursion(1.25, 0.05)
    jump = trainability(so3ntk.Erf(), 1.25**0.5, B, depths=[2, 800], inputs=(inputs + inputs.T) / 2 * float(exact.q))
    assert jump.matched == math.ceil(7 * jump.depth_c)
    theta = exact.theta(inputs, 800)[:-1, :-1]
    centred = theta - theta.mean(axis=0) - theta.mean(axis=1)[:, None] + theta.mean()  # what the constant leaves
    smallest = np.linalg.eigvalsh(centred.astype(float))[1]
    np.testing.assert_allclose(jump.condition_predicted[1], float(theta.sum() / 4) / smallest, rtol=0.02)


def test_bad_inputs():
    with pytest.raises(TypeError, match="expected a network, a block or an activation such as"):
        trainability(jnp.tanh)
    for inputs, message in [
        (np.ones((2, 2)), "n >= 2 training inputs and one test input"),
        (np.full((4, 4), np.nan), "found NaN or infinity"),
        (np.triu(np.ones((4, 4))), "symmetric kernel"),
    ]:
        with pytest.raises(ValueError, match=message):
            trainability(so3ntk.Erf(), 1.0, 0.1, [1], inputs=inputs)
    with pytest.raises(ValueError, match="increasing numbers"):
        phase_diagram(so3ntk.Erf(), [], [0.1])
    with pytest.raises(ValueError, match="W_std"):
        phase_diagram(so3ntk.Erf(), [0.0, 1.0], [0.1])
