"""What callers pass beside arrays: standard deviations, tolerances, yes or no, paths; and where warnings point."""

import math
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import so3ntk
from so3ntk import Dense, Flatten, Lift, Relu, SphereSignal, serial
from so3ntk.basics.arguments import is_address
from so3ntk.basics.caller import warn
from so3ntk.cli.tolerance import check_rtol

X = np.random.default_rng(0).normal(size=(3, 2))


@pytest.mark.parametrize("value", [1e200, -1e200, 1e-200, math.nan, math.inf, 10**400])
@pytest.mark.parametrize("name", ["W_std", "b_std"])
def test_standard_deviations_whose_squares_no_float_holds(name, value):
    with pytest.raises(ValueError, match=f"Dense: expected {name} to be 0 or of a size between 1.5e-154 and 1.3e"):
        serial(Flatten(), Dense(**{name: value}), Relu(), Dense()).kernel_fn(X)
    with pytest.raises(ValueError, match=f"Lift: expected {name} to be 0 or of a size"):
        serial(Lift(**{name: value}), so3ntk.GroupPool(), quadrature=so3ntk.ProductGrid(4)).kernel_fn(
            SphereSignal(np.ones((2, 4, 1)), 2)
        )


@pytest.mark.parametrize("value", ["1", True, [1.0, 2.0], np.ones(2)])
def test_standard_deviations_that_are_no_numbers(value):
    with pytest.raises(TypeError, match="Dense: expected W_std to be a number, a standard deviation, got"):
        serial(Flatten(), Dense(W_std=value), Relu(), Dense()).kernel_fn(X)


@pytest.mark.parametrize("value", [0, 2, 1.5, -1.5, np.float64(1.5), 1e100, jnp.asarray(1.5)])
def test_standard_deviations_that_are(value):
    kernel = serial(Flatten(), Dense(W_std=value)).kernel_fn(X, None, "nngp")
    plain = serial(Flatten(), Dense()).kernel_fn(X, None, "nngp")
    np.testing.assert_allclose(kernel, plain * np.float64(value) ** 2, rtol=1e-12)


def test_tolerances():
    assert check_rtol(1e-6, "float32", "here") == 1e-6
    assert check_rtol(1e-14, np.float64, "here") == 1e-14
    with pytest.raises(
        ValueError, match=r"here: rtol 1e-07 is below what float32 can reach, 9.5e-07: .*or compute in double"
    ):
        check_rtol(1e-7, "float32", "here")
    with pytest.raises(ValueError, match=r"below what float64 can reach, 1.8e-15: .*Raise rtol\.$"):
        check_rtol(1e-15, "float64", "here")
    for wrong in (0, 1, -1e-3, math.nan, "1e-3", None, True):
        with pytest.raises(ValueError, match="here: expected rtol, a relative error, between 0 and 1"):
            check_rtol(wrong, "float64", "here")


def test_the_limit_is_where_rounding_is():
    """Single precision differs from double by less than the limit, and by more than a tenth of it."""
    rng = np.random.default_rng(0)
    x = SphereSignal(rng.normal(size=(6, 16, 2)), 4)
    net = serial(
        Lift(b_std=1.0), so3ntk.Erf(), so3ntk.GroupPool(), Dense(), quadrature=so3ntk.ProductGrid(16), rtol=0.5
    )
    double = np.asarray(net.kernel_fn(x, None, "ntk"))
    single = np.asarray(net.kernel_fn(SphereSignal(x.coefficients.astype(jnp.float32), 4), None, "ntk"), np.float64)
    error = np.abs(single - double).max() / np.diag(double).max()
    assert 0.02 < error / (8 * np.finfo(np.float32).eps) < 1


def test_addresses():
    for place in (
        "s3://bucket/x",
        "memory://x",
        "file:///tmp/x",
        Path("gs://bucket/x"),
        "https+zip://x",
        "zip::s3://bucket/x.zip",
    ):
        assert is_address(place)
    for place in ("x", "/tmp/a:b", "C:/x", "C:\\x", "run:1/x", Path("x.zarr"), ".", "", 3, None):
        assert not is_address(place)


def test_warnings_point_at_the_caller():
    """Whatever lies between: here a function of ours, in a module whose annotations are checked."""
    from so3ntk.learning.ridge import warn_if_flat

    for call in (lambda: warn("said"), lambda: warn_if_flat(np.zeros(1), "here")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert [w.filename for w in caught] == [__file__]
