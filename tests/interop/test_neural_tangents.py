"""Our networks inside neural-tangents' stax, against networks of its own layers and against our engine."""

import importlib
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planar
import so3ntk
from so3ntk import Dense, FanInSum, FanOut, Flatten, GroupConv, GroupPool, Lift, ProductGrid, Relu, SphereSignal
from so3ntk.molecules import AtomSum

try:
    import neural_tangents as nt
    from neural_tangents import stax

    from so3ntk.interop import neural_tangents as interop

    MISSING = None
except Exception as error:  # on a newer jax its import ends in an AttributeError
    MISSING = f"neural-tangents 0.6.5 needs jax <= 0.5.3: {error}"

needs_nt = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
EPS = np.finfo(np.float64).eps
GRID = ProductGrid(8)
RANDOM = np.random.default_rng(0)
SPHERE = RANDOM.normal(size=(4, 9, 2)), RANDOM.normal(size=(2, 9, 2))
IMAGES = RANDOM.normal(size=(4, 5, 5, 2)), RANDOM.normal(size=(2, 5, 5, 2))
ADVICE = r"0\.5\.0 to 0\.5\.3.*pip install 'neural-tangents==0\.6\.5' 'jax==0\.5\.3'"
#: On the diagonal rounding of a cosine changes a kinked NTK by its root, at one of the motions averaged over.
DIAGONAL = 8 * EPS**0.5


def sphere_front(width=4):
    layers = Lift(width=width, W_std=1.2, b_std=0.3), Relu(), GroupConv(width=width, b_std=0.1), Relu(), GroupPool()
    return so3ntk.serial(*layers, quadrature=GRID, rtol=0.9)


def small_front():
    return so3ntk.serial(Lift(width=4), Relu(), GroupPool(), quadrature=ProductGrid(4), rtol=0.9)


def small_net():
    """One for several tests, which compile it once."""
    return so3ntk.serial(*small_front().layers, Dense(1), quadrature=ProductGrid(4), rtol=0.9)


def banded_front():
    """Variances after the convolution are those of the inputs' own fields."""
    layers = (
        Lift(width=4, bandlimit=2, variances=[0.5, 2.0]),
        Relu(),
        GroupConv(width=4, bandlimit=2),
        Relu(),
        GroupPool(),
    )
    return so3ntk.serial(*layers, quadrature=GRID, rtol=0.9)


def image_front(window=3, padding="CIRCULAR", group="C4", middle=(), **keywords):
    shape = window and (window, window)
    lift = planar.Lift(shape, padding, group, width=4, W_std=1.2, b_std=0.3, **keywords)
    conv = planar.GroupConv(shape, padding, width=4, b_std=0.1, **keywords)
    return so3ntk.serial(lift, Relu(), *middle, conv, Relu(), GroupPool())


def mirrored_front():
    layers = Lift(width=4, b_std=0.3, group="O3"), Relu(), GroupConv(width=4), Relu(), GroupPool()
    return so3ntk.serial(*layers, quadrature=ProductGrid(4), rtol=0.9)


CAPS = so3ntk.LocalGrid(ProductGrid(4), so3ntk.SphereGrid(6))


def cap_front():
    layers = Lift(width=4, b_std=0.3, support=1.0), Relu(), GroupConv(width=4, support=0.8), Relu(), GroupPool()
    return so3ntk.serial(*layers, quadrature=CAPS, rtol=0.9)


def branched_front():
    """A signal's invariants beside the signal as a vector."""
    branches = so3ntk.serial(*sphere_front().layers, Dense(4)), so3ntk.serial(Flatten(), Dense(4), Relu(), Dense(4))
    return so3ntk.serial(FanOut(2), so3ntk.parallel(*branches), FanInSum(), quadrature=GRID, rtol=0.9)


FRONTS = {
    "sphere": (sphere_front, SPHERE),
    "sphere, band-limited": (banded_front, SPHERE),
    "sphere, O(3)": (mirrored_front, SPHERE),
    "sphere, caps": (cap_front, SPHERE),
    "sphere, branches": (branched_front, SPHERE),
    "C4": (image_front, IMAGES),
    "C2, VALID, standard": (lambda: image_front(2, "VALID", "C2", parametrization="standard"), IMAGES),
    "D4, global": (lambda: image_front(None, group="D4"), IMAGES),
    "C4, tiles": (
        lambda: image_front(middle=[planar.AvgPool((2, 2))]),
        [RANDOM.normal(size=(n, 6, 6, 2)) for n in (4, 2)],
    ),
    "vectors": (lambda: so3ntk.serial(Flatten(), Dense(4), Relu(), Dense(4)), [x[:, 0] for x in SPHERE]),
    "images as vectors": (lambda: so3ntk.serial(planar.Flatten(), Dense(4), Relu(), Dense(4)), IMAGES),
}


def as_signal(x):
    return SphereSignal(x, math.isqrt(x.shape[1])) if x is not None and x.ndim == 3 else x


def assert_kernels_agree(actual, expected, tolerance, names=("nngp", "ntk")):
    """Relative to the largest value; looser on the diagonal of an NTK."""
    for name in names:
        values, reference = (np.asarray(getattr(k, name)) for k in (actual, expected))
        bound = np.full_like(reference, tolerance)
        if name == "ntk" and len(reference) == len(reference.T):
            np.fill_diagonal(bound, DIAGONAL)
        error = np.abs(values - reference) / np.abs(reference).max()
        assert np.all(error <= bound), f"{name}: {error.max():.1e}"


def head():
    return Dense(8, b_std=0.2), Relu(), Dense(1)


@needs_nt
@pytest.mark.slow
@pytest.mark.parametrize("name", FRONTS)
def test_layers_after_ours_are_ours(name):
    """Dense, Relu, Dense of stax after the pooling against our own, and the variances against diagonals."""
    front, (x1, x2) = FRONTS[name]
    net = so3ntk.serial(*front().layers, *head(), quadrature=front().quadrature, rtol=0.9)
    *_, composed = stax.serial(interop.as_layer(front()), stax.Dense(8, b_std=0.2), stax.Relu(), stax.Dense(1))
    expected = net.kernel_fn(as_signal(x1), as_signal(x2))
    every = np.diag(net.kernel_fn(as_signal(np.concatenate([x1, x2])), None, "nngp"))  # one program for both
    variances = np.split(every, [len(x1)])
    for kernel in (composed(x1, x2), interop.kernel_fn(net)(x1, x2)):
        assert_kernels_agree(kernel, expected, 1e-10)  # 1e5 roundings of our tower's interpolation
        assert (kernel.shape1, kernel.shape2, kernel.is_gaussian) == ((len(x1), 1), (len(x2), 1), True)
        for found, own in zip((kernel.cov1, kernel.cov2), variances, strict=True):
            np.testing.assert_allclose(found, own, rtol=1e-12)  # sums of some thousand terms


@needs_nt
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere", "C4", "vectors"])
def test_a_batch_with_itself(name):
    """x2 None; with our layers all in one triple, and those after pooling in triples of their own."""
    front, (x, _) = FRONTS[name]
    net = so3ntk.serial(*front().layers, *head(), quadrature=GRID, rtol=0.9)
    expected = net.kernel_fn(as_signal(x))
    after = stax.Dense(8, b_std=0.2), stax.Relu(), stax.Dense(1)
    for triple in (
        interop.as_layer(net),
        stax.serial(interop.as_layer(front()), *after),
        stax.serial(interop.as_layer(front()), *map(interop.as_layer, head())),
    ):
        kernel = triple[2](x)
        assert_kernels_agree(kernel, expected, 1e-10)
        assert kernel.cov2 is None
        np.testing.assert_allclose(kernel.cov1, np.diag(expected.nngp), rtol=1e-12)


@needs_nt
@pytest.mark.slow
def test_the_width_of_the_lifting_layer_reaches_the_head():
    """In the standard parametrisation, where no layer between has a width of its own."""
    standard = {"parametrization": "standard"}
    layers = planar.Lift((3, 3), width=4, **standard), Relu(), GroupPool(), Dense(1, **standard)
    net, x = so3ntk.serial(*layers), IMAGES[0]
    assert_kernels_agree(interop.as_layer(net)[2](x), net.kernel_fn(x), 1e-12)


@needs_nt
@pytest.mark.slow
@pytest.mark.parametrize(("group", "before"), [("C1", "convolution"), ("C4", "nothing"), ("C4", "channels")])
def test_images_are_means_of_their_cnn(group, before):
    """The mean over the turns of the second image of a network of stax alone: with C1, that network.

    Features after a convolution of stax do not turn with the image, so there C4 has no such equivalent.
    """
    layers = {
        "nothing": (),
        "channels": (stax.Dense(8, W_std=1.3, b_std=0.4), stax.Relu(), stax.Identity()),
        "convolution": (stax.Conv(8, (3, 3), padding="SAME"), stax.Relu()),
    }[before]
    conv = {"filter_shape": (3, 3), "padding": "SAME"}
    after = stax.Dense(8), stax.Relu(), stax.Dense(1)
    cnn = stax.serial(*layers, stax.Conv(4, **conv, W_std=1.2, b_std=0.3), stax.Relu(), stax.Conv(4, **conv, b_std=0.1),
                      stax.Relu(), stax.GlobalAvgPool())  # fmt: skip
    ours = stax.serial(*layers, interop.as_layer(image_front(padding="SAME", group=group)))
    x1, x2 = IMAGES
    if group == "C1":
        cnn, ours = (stax.serial(front, *after) for front in (cnn, ours))
        assert_kernels_agree(ours[2](x1), cnn[2](x1), 1e-12)
    actual = ours[2](x1, x2)
    turns = 4 if group == "C4" else 1
    expected = [cnn[2](x1, np.rot90(x2, turn, (1, 2))) for turn in range(turns)]
    for name in ("nngp", "ntk"):
        mean = np.mean([getattr(k, name) for k in expected], axis=0)
        np.testing.assert_allclose(getattr(actual, name), mean, rtol=0, atol=1e-12 * np.abs(mean).max())


@needs_nt
@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "channels"])
def test_spheres_are_means_of_their_mlp(before):
    """The mean over the grid's rotations of a fully connected network of stax on the coefficients."""
    layers = [stax.Dense(8, W_std=1.3)] if before == "channels" else []
    x1, x2 = SPHERE
    scale = math.sqrt(x1.shape[1] / (4 * np.pi))  # Flatten averages over coefficients, kernels over the sphere
    mlp = stax.serial(*layers, stax.Flatten(), stax.Dense(4, W_std=1.2 * scale, b_std=0.3), stax.Relu(),
                      stax.Dense(4, b_std=0.1), stax.Relu())  # fmt: skip
    rotations = GRID.rotations
    copies = so3ntk.rotate(SphereSignal(np.repeat(x2, len(rotations), axis=0), 3), _tiled(rotations, len(x2)))
    reference = mlp[2](x1, np.asarray(copies.coefficients), ("nngp", "ntk"))
    actual = stax.serial(*layers, interop.as_layer(sphere_front()))[2](x1, x2)
    for name in ("nngp", "ntk"):
        mean = getattr(reference, name).reshape(len(x1), len(x2), -1) @ GRID.weights
        np.testing.assert_allclose(getattr(actual, name), mean, rtol=0, atol=1e-12 * np.abs(mean).max())


def _tiled(rotations, times):
    return np.tile(rotations.as_matrix(), (times, 1, 1))


@needs_nt
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere", "C4"])
def test_batch(name):
    front, (x1, x2) = (small_front, SPHERE) if name == "sphere" else FRONTS[name]
    *_, composed = stax.serial(interop.as_layer(front()), stax.Dense(8), stax.Relu(), stax.Dense(1))
    cases = [(composed, None)] if name == "sphere" else [(composed, None), (interop.kernel_fn(front()), x2)]
    for fn, x2_or_none in cases:
        whole, batched = fn(x1, x2_or_none), nt.batch(fn, batch_size=2, device_count=0)
        kernel = batched(x1, x2_or_none)
        assert_kernels_agree(kernel, whole, 1e-13)  # another program rounds otherwise
        np.testing.assert_allclose(kernel.cov1, whole.cov1, rtol=1e-13)
        assert (kernel.cov2 is None) == (x2_or_none is None)
        assert_kernels_agree(batched(x1, x2_or_none, ("nngp", "ntk")), whole, 1e-13)


@needs_nt
@pytest.mark.slow
def test_predictions():
    """neural-tangents' ensembles with our kernels against ours."""
    (x1, x2), y = SPHERE, np.array([[1.0], [-1.0], [0.5], [0.0]])
    net = small_net()
    kernels = [net.kernel_fn(as_signal(a), as_signal(b)) for a, b in ((x1, None), (x2, x1), (x2, None))]
    *_, composed = stax.serial(interop.as_layer(small_front()), stax.Dense(1))
    for fn in (interop.kernel_fn(net), nt.batch(composed, 2, device_count=0)):
        predict = nt.predict.gradient_descent_mse_ensemble(fn, x1, y, diag_reg=1e-2)
        for t in (1.0, 100.0, None):
            end = math.inf if t is None else t
            mean, covariance = so3ntk.predict.ensemble(kernels[0], y, *kernels[1:], end, diag_reg=1e-2)
            found = predict(t, x2, get="ntk", compute_cov=True)
            np.testing.assert_allclose(found.mean, mean, rtol=0, atol=1e-7)  # an NTK's diagonal is to 1e-8
            np.testing.assert_allclose(found.covariance, covariance, rtol=0, atol=1e-7)


@needs_nt
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sphere", "C4"])
def test_finite_networks_compose(name):
    """Monte Carlo over finite networks in stax, layers before and after ours; bias and error are below 15 %."""
    _, (x1, x2) = FRONTS[name]
    x1 = x1[:2]
    if name == "sphere":
        front = so3ntk.serial(Lift(width=32), Relu(), GroupPool(), quadrature=ProductGrid(4), rtol=0.9)
    else:
        front = so3ntk.serial(planar.Lift((3, 3), width=32), Relu(), GroupPool())
    init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(32), interop.as_layer(front), stax.Dense(32), stax.Relu(),
                                               stax.Dense(1))  # fmt: skip
    shape, params = init_fn(jax.random.PRNGKey(0), (-1, *x1.shape[1:]))
    assert shape == (-1, 1)
    assert apply_fn(params, jnp.asarray(x1)).shape == (2, 1)
    sample = nt.monte_carlo_kernel_fn(init_fn, apply_fn, jax.random.PRNGKey(1), 300, device_count=0)
    empirical, exact = sample(x1, x2, ("nngp", "ntk")), kernel_fn(x1, x2)
    for kernel in ("nngp", "ntk"):
        values, limit = getattr(empirical, kernel), getattr(exact, kernel)
        assert np.abs(values - limit).max() < 0.15 * np.abs(limit).max(), kernel


@needs_nt
@pytest.mark.slow
def test_a_mixed_sequence():
    """Neighbours of ours become one triple: the lifting to the pooling, and two layers after one of theirs."""
    x1, x2 = SPHERE
    front, grid = small_front(), {"quadrature": ProductGrid(4), "rtol": 0.9}
    mixed = interop.serial(stax.Dense(8), *front.layers, stax.Dense(8), Relu(), Dense(2), **grid)
    plain = stax.serial(stax.Dense(8), interop.as_layer(front), stax.Dense(8), stax.Relu(), stax.Dense(2))
    assert_kernels_agree(mixed[2](x1, x2), plain[2](x1, x2), 1e-13)
    shape, params = mixed[0](jax.random.PRNGKey(0), x1.shape)
    assert mixed[1](params, x1).shape == shape == (4, 2)


@needs_nt
@pytest.mark.slow
def test_answers_of_the_converted_kernel_function():
    x1, x2 = SPHERE
    fn = interop.kernel_fn(small_net())
    both = fn(x1, x2, ("ntk", "nngp"))
    assert both._fields == ("ntk", "nngp")
    np.testing.assert_array_equal(fn(x1, x2, "ntk"), both.ntk)
    assert fn(x1, x2, ("cov1", "is_gaussian")).is_gaussian is True
    with pytest.raises(ValueError, match="get: expected"):
        fn(x1, x2, "covariance")


@needs_nt
def test_what_does_not_compose_is_refused():
    x = IMAGES[0]
    with pytest.raises(ValueError, match="Add GroupPool"):
        interop.as_layer(so3ntk.serial(Lift(width=2), Relu()))
    with pytest.raises(ValueError, match="Lift has no width"):
        interop.as_layer(so3ntk.serial(Lift(), Relu(), GroupPool()))
    with pytest.raises(TypeError, match="expected a network"):
        interop.as_layer(stax.Relu())
    with pytest.raises(TypeError, match="or triples"):
        interop.serial(stax.Relu(), "Relu")
    with pytest.raises(ValueError, match="sums over the parts"):
        interop.as_layer(so3ntk.serial(Lift(width=2), Relu(), GroupPool(), AtomSum()))
    with pytest.raises(ValueError, match="must be"):  # its own: features after our Relu are not Gaussian
        stax.serial(interop.as_layer(image_front()), stax.Relu())[2](x)
    with pytest.raises(ValueError, match="features that are Gaussian"):
        stax.serial(stax.Dense(2), stax.Relu(), interop.as_layer(Relu()))[2](x[:, 0, 0])
    with pytest.raises(ValueError, match=r"coefficients \(N, L\^2, C\)"):
        interop.as_layer(sphere_front())[2](x)
    with pytest.raises(ValueError, match="square images"):
        interop.as_layer(image_front())[2](x[:, :4])
    with pytest.raises(ValueError, match="mask"):
        interop.as_layer(image_front())[2](x, mask_constant=0.0)
    with pytest.raises(ValueError, match="diagonal_spatial"):
        interop.as_layer(image_front())[2](x, diagonal_spatial=True)
    weighted = so3ntk.serial(Lift(width=2, channel_weights=[1.0, 2.0]), Relu(), GroupPool(), quadrature=GRID)
    with pytest.raises(ValueError, match="channel_weights"):
        interop.as_layer(weighted)[2](SPHERE[0])


def test_the_import_works_or_says_what_to_do():
    if MISSING is None:
        assert callable(interop.as_layer)
        return
    with pytest.raises(ImportError, match=ADVICE):
        importlib.import_module("so3ntk.interop.neural_tangents")


@pytest.mark.parametrize("failure", ["ModuleNotFoundError", "AttributeError"])
def test_the_error_says_what_to_do_whatever_fails(failure, tmp_path, monkeypatch):
    """With a neural_tangents that fails as it does without the package, and on a newer jax."""
    (tmp_path / "neural_tangents.py").write_text(f"raise {failure}('planted')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("neural_tangents", "so3ntk.interop.neural_tangents"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=f"jax {jax.__version__} .{failure}: planted.*{ADVICE}"):
        importlib.import_module("so3ntk.interop.neural_tangents")
