"""Kernels of given parameters: against Jacobians written out, in any batches, and against neural-tangents."""

import importlib.util

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
from so3ntk import Dense, Erf, FanInSum, FanOut, GroupPool, Lift, ProductGrid, Relu, empirical, parallel, serial
from so3ntk.molecules import AtomSum, Environments
from tests.finite.cases import images, sphere_signals

EPS = np.finfo(np.float64).eps
SPHERE = serial(Lift(width=6, b_std=0.3), Relu(), GroupPool(), Dense(3), quadrature=ProductGrid(4))
IMAGES = serial(planar.Lift((3, 3), width=6, b_std=0.3), Erf(), GroupPool(), Dense(3))
MOLECULES = serial(Lift(width=6), Erf(), GroupPool(), AtomSum(), Dense(2), quadrature=ProductGrid(4))


def parameters(net, x, dtype=None):
    return net.init_fn(jax.random.key(1), x.shape, dtype)[1]


@eqx.filter_jit
def outputs_and_jacobian(net, params, x):
    return net.apply_fn(params, x), jax.jacobian(net.apply_fn)(params, x)


def by_hand(net, params, x, y):
    """Both kernels from the whole Jacobians."""
    both = [outputs_and_jacobian(net, params, z) for z in (x, y)]
    f, g = (np.asarray(outputs) for outputs, _ in both)
    jacobians = [jax.tree.leaves(jacobian) for _, jacobian in both]
    flat = [np.concatenate([np.asarray(j).reshape(len(z), f.shape[1], -1) for j in leaves], axis=2)
            for leaves, z in zip(jacobians, (x, y), strict=True)]  # fmt: skip
    return f @ g.T / f.shape[1], np.einsum("ncp,mcp->nm", *flat) / f.shape[1]


PERCEPTRON = serial(planar.Flatten(), Dense(5, b_std=0.3), Erf(), Dense(3))
CASES = {"sphere": (SPHERE, sphere_signals(2, 3)), "images": (IMAGES, images(3)), "vectors": (PERCEPTRON, images(5))}


def close_to(expected):
    """Sums over some hundred parameters."""
    return {"rtol": 0, "atol": 100 * EPS * np.abs(expected).max()}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(case):
    net, x = CASES[case]
    params = parameters(net, x)
    kernels = empirical.nngp(net.apply_fn), empirical.ntk(net.apply_fn)
    for kernel, expected in zip(kernels, by_hand(net, params, x, x), strict=True):
        np.testing.assert_allclose(kernel(params, x), expected, **close_to(expected))


def test_batches():
    """One network, whose compilation is quick: batches are cut before it is seen."""
    net, x = CASES["vectors"]
    params = parameters(net, x)
    kernels = empirical.nngp(net.apply_fn), empirical.ntk(net.apply_fn)
    for kernel, expected in zip(kernels, by_hand(net, params, x, x), strict=True):
        for batch in (1, 2, 5, 7):
            found = np.asarray(kernel(params, x, batch=batch))
            np.testing.assert_allclose(found, expected, **close_to(expected))
            np.testing.assert_array_equal(found, found.T)
            np.testing.assert_allclose(kernel(params, x[:2], x, batch=batch), expected[:2], **close_to(expected))
        traced = jax.jit(kernel, static_argnames="batch")(params, x, batch=3)
        np.testing.assert_allclose(traced, expected, **close_to(expected))


def test_molecules():
    """Their atoms share an axis, so derivatives are taken of a batch at once."""
    x = Environments(sphere_signals(2, 5), [0, 0, 0, 1, 1], [1, 6, 8, 1, 6])
    params = parameters(MOLECULES, x.signal)
    for kernel, expected in zip((empirical.nngp, empirical.ntk), by_hand(MOLECULES, params, x, x), strict=True):
        for batch in (None, 1):
            found = kernel(MOLECULES.apply_fn)(params, x, batch=batch)
            np.testing.assert_allclose(found, expected, rtol=0, atol=100 * EPS * np.abs(expected).max())


def test_single_precision():
    net, x = IMAGES, images(2)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), x)
    params = parameters(net, single, jnp.float32)
    double = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    assert jax.eval_shape(net.apply_fn, params, single).dtype == jnp.float32
    for kernel in (empirical.nngp(net.apply_fn), empirical.ntk(net.apply_fn)):
        found, expected = kernel(params, single), np.asarray(kernel(double, x))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=100 * np.finfo(np.float32).eps * expected.max())


def test_block_in_single_precision():
    net = serial(planar.Lift((3, 3), width=2), serial(Erf(), planar.GroupConv((3, 3), width=2)), GroupPool())
    branched = serial(net.layers[0], FanOut(1), parallel(serial(*net.layers[1:3])), FanInSum(), GroupPool())
    x = images(1).astype(jnp.float32)
    params = jax.eval_shape(lambda key: branched.init_fn(key, x.shape, jnp.float32)[1], jax.random.key(1))
    assert jax.eval_shape(branched.apply_fn, params, x).dtype == jnp.float32


def test_memory():
    """A tile of one input holds two Jacobians of one channel, not those of all inputs and channels."""
    net, x = serial(planar.Flatten(), Dense(64), Erf(), Dense(64), Erf(), Dense(16)), images(4)
    params = parameters(net, x)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))

    def scratch(rows):
        tile = jax.jit(lambda p, a, b: empirical._ntk_tile(net.apply_fn, p, a, b))
        return tile.lower(params, x[:rows], x[:rows]).compile().memory_analysis().temp_size_in_bytes

    assert scratch(1) < 4 * size
    assert scratch(4) > 5 * size  # the test can fail
    large = {"a": jax.ShapeDtypeStruct((2**20, 2**8), jnp.float32)}
    assert empirical._largest_batch(large) == 1
    assert empirical._largest_batch({"a": jax.ShapeDtypeStruct((1024,), jnp.float32)}) == 2**28 // 2**13


def test_average():
    """Means and standard errors are those of the draws, whatever their number and the batch."""
    net, x = IMAGES, images(2)
    settings = {"key": 5, "hidden": False, "progress": False}
    found = empirical.monte_carlo(net, x, draws=19, **settings)
    keys = jax.random.split(jax.random.key(5), 19)
    each = [by_hand(net, net.init_fn(key, x.shape)[1], x, x) for key in keys]
    for index in (0, 1):
        draws = np.stack([kernels[index] for kernels in each])
        np.testing.assert_allclose(found.mean[index], draws.mean(axis=0), rtol=0, atol=1e-13 * draws.max())
        error = draws.std(axis=0, ddof=1) / np.sqrt(19)
        np.testing.assert_allclose(found.error[index], error, rtol=0, atol=1e-13 * draws.max())
    alone = empirical.monte_carlo(net, x, x[:1], draws=19, get="ntk", batch=1, **settings)
    np.testing.assert_allclose(alone.mean, found.mean.ntk[:, :1], rtol=0, atol=1e-13 * draws.max())
    assert alone.draws == 19


def test_progress(capsys):
    empirical.monte_carlo(IMAGES, images(1), draws=2, get="nngp")
    assert "2/2" in capsys.readouterr().err


def test_hidden_average_is_the_expectation_over_the_last_layer():
    net, x = serial(planar.Flatten(), Dense(4), Relu(), Dense(4000, W_std=1.5, b_std=0.5)), images(2)
    averages = [empirical.monte_carlo(net, x, draws=2, get="nngp", hidden=hidden, progress=False)
                for hidden in (False, True)]  # fmt: skip
    np.testing.assert_allclose(averages[0].mean, averages[1].mean, rtol=0.2)  # 4000 channels: 5 standard errors
    assert not np.allclose(averages[0].mean, averages[1].mean, rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"draws": 1}, "draws >= 2"), ({"batch": 0}, "batch"), ({"get": "both"}, "get"), ({"draws": 2.5}, "draws >= 2")],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        empirical.monte_carlo(IMAGES, images(1), progress=False, **wrong)


def test_refusals():
    x = images(1)
    open_ended, narrow = serial(planar.Lift((3, 3), width=2), Relu()), serial(planar.Lift((3, 3)), GroupPool())
    with pytest.raises(ValueError, match="before pooling"):
        empirical.monte_carlo(open_ended, x, draws=2, progress=False)
    with pytest.raises(ValueError, match="give width="):
        empirical.monte_carlo(narrow, x, draws=2, progress=False)
    with pytest.raises(ValueError, match="positive integer"):
        empirical.ntk(IMAGES.apply_fn)(parameters(IMAGES, x), x, batch=-1)


@pytest.mark.skipif(importlib.util.find_spec("neural_tangents") is None, reason="needs neural-tangents")
def test_neural_tangents():
    import neural_tangents

    net, x = CASES["images"]
    params = parameters(net, x)
    theirs = neural_tangents.empirical_nngp_fn(net.apply_fn), neural_tangents.empirical_ntk_fn(net.apply_fn)
    ours = empirical.nngp(net.apply_fn), empirical.ntk(net.apply_fn)
    for their, our in zip(theirs, ours, strict=True):
        for second in (None, x[:2]):
            expected = np.asarray(their(x, second, params))
            np.testing.assert_allclose(our(params, x, second), expected, rtol=0, atol=100 * EPS * expected.max())
