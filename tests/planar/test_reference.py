"""Image networks against values frozen from neural-tangents, and against it where it can be imported."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk import Dense, GroupPool, serial
from tests.oracles.images import turned

FOLDER = Path(__file__).parent.parent / "reference"
REFERENCE = json.loads((FOLDER / "image_values.json").read_text())
ORDERS = {"C4": 4, "D4": 8}


def inputs(n):
    """One image, and two, as in make_image_values.py: there all views of the two follow each other."""
    f, g, h = np.random.default_rng(n).normal(size=(3, n, n, 2))
    return f[None], np.stack([f + 1e-3 * h, g])


def views(images):
    """The four quarter turns, then those of the mirror images: (8 N, n, n, c)."""
    return turned(images, "D4").swapaxes(0, 1).reshape(-1, *images.shape[1:])


def network(layers, parametrization, group):
    """The network of this library for an entry of the file."""
    built = []
    for layer in layers:
        match layer:
            case ["Conv", width, size, padding, weight, bias]:
                scales = {"W_std": weight, "b_std": bias, "width": width, "parametrization": parametrization}
                shape = (size, size)
                conv = (
                    planar.GroupConv(shape, padding, **scales)
                    if built
                    else planar.Lift(shape, padding, group, **scales)
                )
                built.append(conv)
            case ["AvgPool", window]:
                built.append(planar.AvgPool((window, window)))
            case ["GlobalAvgPool"]:
                built.append(GroupPool())
            case ["Dense", width, weight, bias]:
                built.append(Dense(width, W_std=weight, b_std=bias, parametrization=parametrization))
            case [activation]:
                built.append(getattr(so3ntk, activation)())
    return serial(*built)


#: Of the 16 views of two images, four that are each another turn: without a group every view is just another image.
SOME = slice(None, None, 5)


def some(expected):
    """The kernels with these views."""
    return {name: np.asarray(values)[:, SOME] for name, values in expected.items()}


def assert_agrees(actual, expected):
    """Sums of thousands of terms, through dual functions of another form."""
    for name in ("nngp", "ntk"):
        values = np.asarray(expected[name])
        assert np.abs(np.asarray(getattr(actual, name)) - values).max() <= 1e-12 * np.abs(values).max()


@pytest.mark.parametrize(
    "name",
    ["circular, odd", "same, even, relu after pooling", "valid, odd, erf after pooling", "several paddings"],
)
def test_frozen_values(name):
    reference = REFERENCE[name]
    x1, x2 = inputs(reference["pixels"])
    found = network(reference["layers"], "ntk", "C1").kernel_fn(x1, views(x2)[SOME])
    assert_agrees(found, some(reference["ntk"]))


def test_frozen_values_of_the_standard_parametrization():
    """The gain of a k x k filter on n channels is k^2 n, whatever the padding."""
    reference = REFERENCE["circular, even, average pooling"]
    x1, x2 = inputs(reference["pixels"])
    found = network(reference["layers"], "standard", "C1").kernel_fn(x1, views(x2)[SOME])
    assert_agrees(found, some(reference["standard"]))
    ntk, standard = (np.asarray(reference[parametrization]["ntk"]) for parametrization in ("ntk", "standard"))
    assert np.abs(standard - ntk).max() > np.abs(ntk).max()  # or the file would hold one of them twice


@pytest.mark.parametrize(
    ("name", "group"),
    [("same, odd", "C4"), ("valid, even", "D4")],
)
def test_group_network_is_the_mean_over_views(name, group):
    """Of the plain network's kernel: quarter turns of the second image for C4, and its mirror images for D4."""
    reference = REFERENCE[name]
    x1, x2 = inputs(reference["pixels"])
    found = network(reference["layers"], "ntk", group).kernel_fn(x1, x2)
    plain = {kernel: np.reshape(values, (8, len(x2)))[: ORDERS[group]] for kernel, values in reference["ntk"].items()}
    assert_agrees(found, {kernel: values.mean(axis=0) for kernel, values in plain.items()})
    for values in plain.values():  # or the mean would be no test
        assert np.ptp(values, axis=0).max() > 1e-2 * np.abs(values).max()


@cache
def script():
    try:
        import neural_tangents  # noqa: F401  # pyright: ignore[reportMissingImports]
    except Exception as error:  # on a newer jax its import ends in an AttributeError
        pytest.skip(f"neural-tangents 0.6.5 needs jax <= 0.5.3: {error}")
    spec = importlib.util.spec_from_file_location("make_image_values", FOLDER / "make_image_values.py")
    module = importlib.util.module_from_spec(spec)  # pyright: ignore
    spec.loader.exec_module(module)  # pyright: ignore
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`FanIn` layers assume independent inputs")
def test_file_is_what_neural_tangents_gives():
    """The file against a live run of the script that wrote it: another processor may round otherwise."""
    live = script()
    assert {name: (entry["pixels"], entry["layers"]) for name, entry in REFERENCE.items()} == live.NETWORKS
    for n, _ in live.NETWORKS.values():
        for mine, theirs in zip(inputs(n), live.inputs(n), strict=True):
            np.testing.assert_array_equal(mine if len(mine) == 1 else views(mine), theirs)
    for entry in REFERENCE.values():
        for parametrization in ("ntk", "standard"):
            with jax.numpy_dtype_promotion("standard"):  # stax divides floats by integers
                values = live.kernels(entry["layers"], parametrization, *live.inputs(entry["pixels"]))
            for kernel, stored in entry[parametrization].items():
                np.testing.assert_allclose(values[kernel], stored, rtol=0, atol=1e-12 * np.abs(stored).max())


@pytest.mark.parametrize(("name", "size"), [
    ("valid, odd, erf after pooling", (6, 6)), ("valid, even", (6, 5)), ("same, odd", (3, 5)), ("circular, odd", (5, 6)),
])  # fmt: skip
def test_live_at_another_size(name, size):
    """Images that the file does not hold, in the environment that can compare them; of rectangles C2 is a mean, too."""
    live, layers = script(), REFERENCE[name]["layers"]
    x = np.random.default_rng(9).normal(size=(3, *size, 1))
    both = jnp.asarray(np.concatenate([x[1:], np.rot90(x[1:], 2, (1, 2))]))
    expected = live.kernels(layers, "ntk", jnp.asarray(x[:1]), both)
    assert_agrees(network(layers, "ntk", "C1").kernel_fn(x[:1], both), expected)
    if size[0] != size[1]:
        means = {kernel: values.reshape(2, 2).mean(axis=0) for kernel, values in expected.items()}
        assert_agrees(network(layers, "ntk", "C2").kernel_fn(x[:1], x[1:]), means)


@pytest.mark.parametrize(("shape", "padding"), [((2, 2), "VALID"), (None, "CIRCULAR")])
@pytest.mark.filterwarnings("ignore:`FanIn` layers assume independent inputs")
def test_rectangles_among_the_layers_of_neural_tangents(shape, padding):
    script()
    from so3ntk.interop import neural_tangents as interop

    net = serial(planar.Lift(shape, padding, "C2", width=4, b_std=0.3), so3ntk.Relu(), GroupPool())
    x = np.random.default_rng(9).normal(size=(3, 3, 5, 2))
    found = interop.as_layer(net)[2](x[:1], x[1:])
    expected = net.kernel_fn(x[:1], x[1:])
    assert_agrees(found, {"nngp": expected.nngp, "ntk": expected.ntk})
