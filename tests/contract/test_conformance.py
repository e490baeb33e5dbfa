"""Every architecture through the harness of tests/conformance.py, and closed facts about single layers."""

import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk import (
    Abs,
    Cos,
    Dense,
    Elementwise,
    Erf,
    FanInSum,
    FanOut,
    Flatten,
    Gelu,
    GroupConv,
    GroupPool,
    Identity,
    LeakyRelu,
    Lift,
    Monomial,
    Products,
    Relu,
    SigmoidLike,
    Sin,
    parallel,
    serial,
)
from tests import conformance
from tests.conformance import Architecture


def architecture(name, *layers, depth=1, kinked=False):
    return Architecture(name, lambda quadrature: serial(*layers, quadrature=quadrature), depth, kinked)


def block():
    """A residual block."""
    return (FanOut(2), parallel(Identity(), serial(Relu(), GroupConv(W_std=1.1))), FanInSum())


WHOLE = [
    architecture("linear", Lift(), GroupConv(), GroupPool(), Dense(), depth=0),
    architecture("relu, depth 3", Lift(), Relu(), GroupConv(), Relu(), GroupConv(W_std=1.4), Relu(), GroupPool(),
                 Dense(b_std=0.1), depth=3, kinked=True),
    architecture("erf with biases", Lift(b_std=0.3), Erf(), GroupConv(W_std=1.3, b_std=0.2), Erf(), GroupPool(),
                 Dense(b_std=0.1), depth=2),
    architecture("band-limited convolution", Lift(), Monomial(2), GroupConv(bandlimit=2), Relu(), GroupPool(), depth=2,
                 kinked=True),
    architecture("convolution with a spectrum", Lift(), Erf(), GroupConv(variances=np.array([0.5, 1.5, 2.0])), Gelu(),
                 GroupPool(), depth=2),
    architecture("lifting with a spectrum", Lift(bandlimit=2, variances=np.array([0.8, 1.7]),
                                                 channel_weights=np.array([0.4, 1.6])), Relu(), GroupPool(), kinked=True),
    architecture("nonlinearity after pooling", Lift(), Relu(), GroupPool(), Dense(), Monomial(2), Dense(), depth=2,
                 kinked=True),
    architecture("residual block", Lift(), *block(), Relu(), GroupPool(), Dense(), depth=2, kinked=True),
    architecture("two lifts", FanOut(2),
                 parallel(Lift(), serial(Lift(bandlimit=2, variances=np.array([0.8, 1.7]), channel_weights=np.array([0.4, 1.6])),
                                         Monomial(2), GroupConv(bandlimit=2))), FanInSum(), Monomial(2), GroupPool(), depth=2),
    architecture("flattened", Flatten(), Dense(), Relu(), Dense(b_std=0.2), kinked=True),
    architecture("standard parametrisation", Lift(width=8, parametrization="standard"), Relu(),
                 GroupConv(width=16, b_std=0.3, parametrization="standard"), Erf(), GroupPool(),
                 Dense(4, b_std=0.2, parametrization="standard"), depth=2, kinked=True),
    architecture("products", Lift(b_std=0.3), Products([0.2, 0.5, 0.3]), GroupConv(bandlimit=2, W_std=1.1, b_std=0.2),
                 Products([0, 0.4, 0, 0.6]), GroupPool(), Dense(b_std=0.1), Products([0.1, 0.2, 0.3]), depth=3),
    architecture("dense before pooling", Lift(), Relu(), Dense(b_std=0.1), Monomial(2), GroupPool(), depth=2, kinked=True),
]  # fmt: skip
SHORT = [
    architecture("leaky relu and abs", Lift(), LeakyRelu(0.2), GroupConv(), Abs(), GroupPool(), depth=2, kinked=True),
    architecture("sine and cosine", Lift(), Sin(1.2, 0.8, 0.3), GroupConv(), Cos(), GroupPool(), depth=2),
    architecture(
        "filters in a branch",
        Lift(),
        Erf(),
        FanOut(2),
        parallel(GroupConv(), serial(GroupConv(bandlimit=2), Relu(), GroupConv())),
        FanInSum(),
        GroupPool(),
        depth=2,
        kinked=True,
    ),
    architecture("cube", Lift(), Monomial(3), GroupPool(), Dense()),
    architecture("body order three", Lift(b_std=0.3), Products([1, 1, 0.5, 1 / 6]), GroupPool(), Dense()),
    architecture(
        "one power",
        Lift(width=12, parametrization="standard"),
        Products([0, 0, 0, 1.0]),
        GroupConv(width=6, parametrization="standard"),
        Products([0, 0, 0.5]),
        GroupPool(),
        Dense(2, parametrization="standard"),
        depth=2,
    ),
    architecture(
        "sigmoid and tanh", Lift(), SigmoidLike(), GroupConv(), Elementwise(jnp.tanh, nodes=6), GroupPool(), depth=2
    ),
]
ALL = {a.name: a for a in WHOLE + SHORT}
#: Each way to the values once: polynomials, towers, degrees with weights at a layer and at the lift, a head, no group, gains of
#: widths, a filter between products. Other towers in single precision are in test_tower, a projection in test_scales.
IN_SINGLE_PRECISION = [
    "linear",
    "relu, depth 3",
    "convolution with a spectrum",
    "lifting with a spectrum",
    "nonlinearity after pooling",
    "flattened",
    "standard parametrisation",
    "products",
]


@pytest.mark.parametrize("name", ALL)
def test_values(name):
    subject = ALL[name]
    conformance.check_same_inputs(subject)
    conformance.check_layer_by_layer(subject)
    conformance.check_positive(subject)
    conformance.check_invariance(subject, equivariant=name != "flattened")
    if name in IN_SINGLE_PRECISION:
        conformance.check_single_precision(subject)
    if subject in WHOLE:  # of the other activations their own tests say so
        conformance.check_few_rows(subject)


#: Each way to a derivative once: layers at each motion, with a head and self states; a kink behind a filter that couples motions; branches,
#: with weights of degrees and channels; no group. What an activation's derivatives are, its own tests say.
DIFFERENTIATED = [
    "linear",
    "nonlinearity after pooling",
    "band-limited convolution",
    "two lifts",
    "flattened",
    "products",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_derivatives(name):
    """Branches have first ones alone: they are sums, and nothing else of theirs is not in the other networks."""
    conformance.check_derivatives(ALL[name], second=name != "two lifts")
