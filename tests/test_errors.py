"""Wrong calls: the error says where, what was expected, what came and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk import (
    Dense,
    Erf,
    ExplicitGrid,
    FanInSum,
    FanOut,
    Flatten,
    GroupConv,
    GroupPool,
    Identity,
    Lift,
    ProductGrid,
    Relu,
    SphereSignal,
    parallel,
    serial,
)

GRID = ExplicitGrid(np.eye(3))
NET = serial(Lift(), Relu(), GroupPool(), Dense(), quadrature=GRID)


def signal(n=2, bandlimit=3, channels=2):
    return SphereSignal(jnp.ones((n, bandlimit**2, channels)), bandlimit)


X = signal()


def raises(error, *fragments):
    """The error, with all fragments in its message, in this order."""
    return pytest.raises(error, match="(?s)" + ".*".join(fragments))


# --- layers


@pytest.mark.parametrize("layer", [Lift, GroupConv])
class TestFilters:
    def test_caps_have_no_spectrum(self, layer):
        for spectrum in ({"bandlimit": 2}, {"variances": np.ones(3)}):
            with raises(ValueError, layer.__name__, "support=0.5", "bandlimit= and variances="):
                layer(support=0.5, **spectrum)

    @pytest.mark.parametrize("support", [0, -1.0, 3.2, "pi", True, float("nan")])
    def test_support_out_of_range(self, layer, support):
        with raises(ValueError, layer.__name__, r"\(0, pi\]", "None"):
            layer(support=support)

    def test_global_support_by_its_angle(self, layer):
        assert layer(support=np.pi).support is None

    @pytest.mark.parametrize(
        ("bandlimit", "error"), [(0, ValueError), (65, ValueError), (2.0, TypeError), (True, TypeError)]
    )
    def test_bandlimit(self, layer, bandlimit, error):
        with raises(error, layer.__name__, "bandlimit"):
            layer(bandlimit=bandlimit)


@pytest.mark.parametrize("layer", [Lift, GroupConv, Dense])
class TestParametrization:
    def test_unknown(self, layer):
        with raises(ValueError, layer.__name__, "'ntk' or 'standard'", "'mup'"):
            layer(parametrization="mup")

    def test_standard_needs_a_width(self, layer):
        with raises(ValueError, layer.__name__, "needs a width", 'or use "ntk"'):
            layer(parametrization="standard")

    @pytest.mark.parametrize("width", [0, -3, 2.5, True, "wide"])
    def test_width(self, layer, width):
        with raises(ValueError, layer.__name__, "positive integer or None"):
            layer(width=width)


def test_standard_needs_the_width_before():
    net = serial(Lift(), Relu(), GroupConv(width=4, parametrization="standard"), GroupPool(), quadrature=GRID)
    with raises(ValueError, "GroupConv", "width of the layer before", "Give that layer a width"):
        net.kernel_fn(X)


def test_group_of_another_kind():
    with raises(ValueError, "'SO3' or 'O3'", "'C4'"):
        Lift(group="C4")


def test_spectra_too_short():
    with raises(ValueError, "GroupConv", "each of the 3 degrees", "got 2"):
        GroupConv(bandlimit=3, variances=np.ones(2))
    with raises(ValueError, "Lift", "each of the 3 degrees", "got 2", "bandlimit=2"):
        serial(Lift(variances=np.ones(2)), GroupPool()).kernel_fn(X)
    with raises(ValueError, "Lift", "2 channels", "got 3"):
        serial(Lift(channel_weights=np.ones(3)), GroupPool()).kernel_fn(X)


@pytest.mark.parametrize("branches", [0, -1, 1.5, True])
def test_fan_out(branches):
    with raises(ValueError, "FanOut", "positive number"):
        FanOut(branches)


def test_branches():
    with raises(ValueError, "parallel", "at least one"):
        parallel()
    with raises(TypeError, "parallel", "expected layers"):
        parallel(Relu(), "relu")
    two_of_three = serial(Lift(), FanOut(3), parallel(Relu(), Erf()), FanInSum(), GroupPool(), quadrature=GRID)
    with raises(ValueError, "parallel", "2 branches", r"FanOut\(2\)", "got 3"):
        two_of_three.kernel_fn(X)
    with raises(ValueError, "parallel", "a single state"):
        serial(Lift(), parallel(Relu(), Erf()), FanInSum(), GroupPool(), quadrature=GRID).kernel_fn(X)
    with raises(ValueError, "FanInSum", "FanOut and parallel"):
        serial(Lift(), FanInSum(), GroupPool(), quadrature=GRID).kernel_fn(X)


def test_branches_that_do_not_fit():
    one_pooled = parallel(GroupPool(), Identity())
    with raises(ValueError, "FanInSum", "Point and SphereGeometry", "Pool in all of them or in none"):
        serial(Lift(), FanOut(2), one_pooled, FanInSum(), GroupPool(), quadrature=GRID).kernel_fn(X)
    widths = parallel(GroupConv(width=4), GroupConv(width=8))
    with raises(ValueError, "FanInSum", "different widths, 4 and 8"):
        serial(Lift(), FanOut(2), widths, FanInSum(), GroupPool(), quadrature=GRID).kernel_fn(X)


# --- networks


def test_serial_of_what_is_not_a_layer():
    with raises(ValueError, "serial", "at least one layer"):
        serial()
    with raises(TypeError, "serial", "Relu", "If it is a class, call it"):
        serial(Lift(), Relu, GroupPool())
    with raises(TypeError, "serial", "expected layers", "got 3"):
        serial(Lift(), 3)


@pytest.mark.parametrize("rtol", [0, 1, -1e-3, float("nan"), float("inf")])
def test_rtol(rtol):
    with raises(ValueError, "serial", "rtol between 0 and 1"):
        serial(Lift(), rtol=rtol)


@pytest.mark.parametrize("rtol", ["1e-4", None, [1e-4]])
def test_rtol_of_the_wrong_type(rtol):
    with raises((TypeError, ValueError), "serial", "rtol"):
        serial(Lift(), rtol=rtol)


@pytest.mark.parametrize("quadrature", [8, "dh", np.eye(3)[None]])
@pytest.mark.parametrize("first", [Lift(), Flatten(), planar.Lift(None)], ids=["sphere", "vectors", "images"])
def test_quadrature(first, quadrature):
    with raises(TypeError, "serial", "ProductGrid, an ExplicitGrid, a LocalGrid or None"):
        serial(first, quadrature=quadrature)


def test_grids():
    for n in (0, 2, 6, -4):
        with raises(ValueError, "ProductGrid", "multiple of 4", f"got {n}", "ExplicitGrid"):
            ProductGrid(n)
    with raises(ValueError, "ProductGrid", "positive n_beta"):
        ProductGrid(8, -1)
    with raises(ValueError, "ExplicitGrid", "at least one rotation"):
        ExplicitGrid(np.zeros((0, 3, 3)))
    for weights in ([1.0, 1.0], [-1.0], [np.nan], [0.0]):
        with raises(ValueError, "ExplicitGrid", "1 positive weights"):
            ExplicitGrid(np.eye(3), weights)
    with raises(ValueError, "ExplicitGrid", "sum to one", "Divide them by their sum"):
        ExplicitGrid(np.stack([np.eye(3)] * 2), [1.0, 1.0])
    with raises(ValueError, "determinant -1"):
        ExplicitGrid(-np.eye(3))
    with raises(ValueError, "not orthogonal"):
        ExplicitGrid(2 * np.eye(3))


def test_layers_out_of_order():
    for layers in ((Lift(), Lift()), (Lift(), Relu(), Lift(), GroupPool()), (Flatten(), Lift())):
        with raises(ValueError, "serial", "Lift", "must be the first layer"):
            serial(*layers)
    with raises(ValueError, "GroupConv", "pooled or flattened", "Use Dense here, or move GroupConv"):
        serial(Lift(), GroupPool(), GroupConv(), quadrature=GRID).kernel_fn(X)
    with raises(ValueError, "GroupConv", "pooled or flattened"):
        serial(Flatten(), GroupConv()).kernel_fn(X)
    for layers in ((Flatten(), Dense(), GroupPool()), (Lift(), GroupPool(), GroupPool())):
        with raises(ValueError, "GroupPool", "A network pools once"):
            serial(*layers, quadrature=GRID).kernel_fn(X)
    with raises(ValueError, "no first layer that reads signals", r"Lift\(\) or Flatten\(\)"):
        serial(Relu(), Dense()).kernel_fn(X)


def test_finite_networks():
    init_fn, apply_fn, kernel_fn = NET
    with raises(ValueError, "Lift", "width="):
        serial(Lift(), GroupPool(), quadrature=so3ntk.ProductGrid(4)).init_fn(jax.random.key(0), (1, 9, 2))
    with raises(NotImplementedError, "finite networks", "ProductGrid"):
        init_fn(jax.random.key(0), (1, 9, 2))  # its grid is a list of rotations
    with raises(ValueError, "init_fn", "shape of a batch"):
        init_fn(jax.random.key(0), (9,))
    with raises(ValueError, "apply_fn", "another network"):
        apply_fn((), X)
    assert kernel_fn(X, None, "ntk").shape == (2, 2)


# --- inputs


@pytest.mark.parametrize("get", ["NTK", "", (), ("nngp", "kernel"), None, 3])
def test_get(get):
    with raises((ValueError, TypeError), "get", '"nngp", "ntk" or a tuple'):
        NET.kernel_fn(X, None, get)


@pytest.mark.parametrize("x", [np.ones((2, 9, 2)), jnp.ones((2, 3, 5, 2)), [1.0, 2.0]])
def test_inputs_that_are_no_signals(x):
    for call in (NET.kernel_fn, NET.calibrate, NET.quadrature_error):
        with raises(TypeError, "Lift", "expected a SphereSignal", "from_samples or"):
            call(x)
    with raises(TypeError, "Lift", "expected a SphereSignal"):
        NET.kernel_fn(X, x)


@pytest.mark.parametrize("x", [3.0, None])
def test_inputs_that_are_no_batches(x):
    with raises(TypeError, "expected a batch"):
        NET.kernel_fn(x)


def test_flatten_reads_vectors_and_signals():
    net = serial(Flatten(), Dense())
    for x in (np.ones(3), np.ones((2, 3, 4))):
        with raises(ValueError, "Flatten", r"array \(n, d\)"):
            net.kernel_fn(x)
    with raises((ValueError, TypeError), "Flatten", "real|complex"):
        net.kernel_fn(np.ones((2, 3)) * 1j)
    with raises(ValueError, "Flatten", r"\(n, d\)|d > 0|empty"):
        net.kernel_fn(np.ones((2, 0)))


def test_batches_that_do_not_fit_each_other():
    with raises(ValueError, r"\(9, 2\)", r"\(4, 2\)", "with_bandlimit"):
        NET.kernel_fn(X, signal(bandlimit=2))
    with raises(ValueError, r"\(9, 2\)", r"\(9, 3\)", "channels"):
        NET.kernel_fn(X, signal(channels=3))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad):
    broken = SphereSignal(X.coefficients.at[1, 2, 0].set(bad), 3)
    with raises(ValueError, "x1 holds NaN or infinity", "signal 1"):
        NET.kernel_fn(broken)
    with raises(ValueError, "x2 holds NaN or infinity", "signal 1"):
        so3ntk.gram(NET, X, broken, progress=False)


def test_measuring_a_grid():
    with raises(ValueError, "quadrature_error", '"ntk" or "nngp"', "'both'"):
        NET.quadrature_error(X, get="both")
    with raises(ValueError, "calibrate", "no rotations"):
        serial(Flatten(), Dense()).calibrate(X)
    for call in (NET.calibrate, NET.quadrature_error):
        with raises(ValueError, "at least one signal", "empty batch"):
            call(X[:0])


# --- Gram matrices


@pytest.mark.parametrize("memory", ["2 gigs", "", "GiB", "0", 0, -1, None, True, "-2GiB"])
def test_memory(memory):
    with raises(ValueError, "memory", "2GiB"):
        so3ntk.gram(NET, X, memory=memory, progress=False)


@pytest.mark.parametrize("memory", ["1KiB", 1000, "0.5 MB"])
def test_too_little_memory(memory):
    with raises(MemoryError, "gram", "budget", "Raise memory=, or use a coarser quadrature"):
        so3ntk.gram(NET, X, memory=memory, progress=False)


@pytest.mark.parametrize("tile", [0, -1, 2.5, True, "8"])
def test_tile(tile):
    with raises(ValueError, "gram", "positive integer"):
        so3ntk.gram(NET, X, tile=tile, progress=False)


def test_clients():
    with raises(TypeError, "gram", "dask.distributed.Client", "'scheduler:8786'"):
        so3ntk.gram(NET, X, progress=False, client="scheduler:8786")


def test_empty_batches_are_no_error():
    for first, second, shape in ((X[:0], None, (0, 0)), (X[:0], X, (0, 2)), (X, X[:0], (2, 0))):
        assert so3ntk.gram(NET, first, second, progress=False).shape == shape
        assert NET.kernel_fn(first, second, "nngp").shape == shape
