"""Image networks through the harness of tests/conformance.py."""

import jax.numpy as jnp
import numpy as np
import pytest

import planar
from planar import AvgPool, GroupConv, Lift
from so3ntk import Dense, Erf, FanInSum, FanOut, Gelu, GroupPool, Identity, Products, Relu, parallel, serial
from tests import conformance
from tests.conformance import Architecture, Domain
from tests.oracles.images import evaluate

TURN = lambda image: np.rot90(image)  # noqa: E731
MIRROR = lambda image: np.rot90(image[:, ::-1], 3)  # noqa: E731
HALF_TURN = lambda image: np.rot90(image, 2)  # noqa: E731
SHIFT = lambda image: np.roll(image, (1, 2), (0, 1))  # noqa: E731


def images(moved, n):
    """n x n pixels, two channels."""
    return Domain(
        white=lambda count, seed: np.random.default_rng(seed).normal(size=(count, n, n, 2)),
        moved=moved,
        batch=jnp.asarray,
        evaluate=evaluate,
    )


def architecture(name, *layers, depth, moved, kinked=False, n=4):
    return Architecture(name, lambda _: serial(*layers), depth, kinked, images(moved, n))


def block():
    """A residual block."""
    return FanOut(2), parallel(Identity(), serial(Relu(), GroupConv((3, 3), "SAME", W_std=1.1))), FanInSum()


LINEAR = architecture("linear", Lift((3, 3), "SAME", "D4", W_std=1.2), GroupConv((3, 3), "SAME", W_std=0.9), GroupPool(),
                      Dense(W_std=1.3), depth=0, moved=MIRROR)  # fmt: skip
LOCAL = architecture("relu", Lift((3, 3), "SAME", W_std=1.2, b_std=0.3), Relu(), GroupConv((3, 3), "SAME", W_std=1.4),
                     Relu(), GroupPool(), Dense(b_std=0.1), Erf(), Dense(), depth=3, kinked=True, moved=TURN)  # fmt: skip
#: Three tiles along each side: of two, the displacements to either side are one.
POOLED = architecture("average pooling", Lift((3, 3), W_std=1.2), Relu(), AvgPool((2, 2)), GroupConv((3, 3), "SAME", b_std=0.2), Relu(),
                      GroupPool(), Dense(b_std=0.2), depth=2, kinked=True, moved=TURN, n=6)  # fmt: skip
GLOBAL = architecture("global support", Lift(None, group="D4", b_std=0.3), Relu(), GroupConv(None), Erf(), GroupPool(),
                      Dense(), depth=2, kinked=True, moved=SHIFT)  # fmt: skip
OTHERS = [
    architecture("residual block", Lift((3, 3), "SAME", "D4"), *block(), Relu(), GroupPool(), depth=2, kinked=True,
                 moved=MIRROR),
    architecture("standard parametrisation", Lift((2, 2), "VALID", width=8, b_std=0.4, parametrization="standard"), Erf(),
                 GroupConv((3, 3), "SAME", width=5, b_std=0.3, parametrization="standard"), Gelu(), GroupPool(),
                 Dense(2, b_std=0.2, parametrization="standard"), depth=2, moved=TURN),
    architecture("products", Lift((3, 3), "SAME", b_std=0.3), Products([0.2, 0.5, 0.3]), GroupConv((3, 3), "SAME", W_std=1.1),
                 Products([0, 0.4, 0.6]), GroupPool(), Dense(b_std=0.1), depth=2, moved=TURN),
    architecture("products everywhere", Lift(None, b_std=0.3), Products([0.2, 0.5, 0.3]), GroupPool(), depth=1, moved=SHIFT),
    architecture("ordinary network", Lift((3, 3), group="C1"), Erf(), GroupConv(None), Erf(), GroupPool(), depth=2,
                 moved=SHIFT),
    architecture("flattened", planar.Flatten(), Dense(), Relu(), Dense(b_std=0.2), Erf(), Dense(), depth=2, kinked=True,
                 moved=TURN),
]  # fmt: skip
ALL = {a.name: a for a in (LINEAR, LOCAL, POOLED, GLOBAL, *OTHERS)}


SMALL = architecture(
    "small", Lift((3, 3), "SAME", "C1", W_std=1.2), Relu(), GroupPool(), depth=1, kinked=True, moved=TURN
)
#: Zero padding, then windows that leave fewer positions, then tiles; nonlinearities of two layers are in GLOBAL.
WINDOWS = architecture("local", Lift((3, 3), "SAME", "C2", b_std=0.3), Relu(), GroupConv((3, 3), "VALID", W_std=1.2, b_std=0.2),
                       AvgPool((2, 2)), GroupPool(), depth=1, kinked=True, moved=HALF_TURN)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_values(name):
    subject = ALL[name]
    conformance.check_same_inputs(subject)
    conformance.check_layer_by_layer(subject)
    conformance.check_positive(subject)
    conformance.check_invariance(subject, equivariant=name != "flattened")
    if name in ("residual block", "global support"):
        conformance.check_single_precision(subject)


@pytest.mark.parametrize("subject", [SMALL, GLOBAL], ids=lambda subject: subject.name)
def test_few_rows(subject):
    conformance.check_few_rows(subject)


def test_linear_network_has_three_layers_to_train():
    """Lift, convolution and dense layer: Theta = 3 K, to the rounding of a sum of three."""
    kernels = conformance.gram(LINEAR)
    np.testing.assert_allclose(kernels.ntk, 3 * kernels.nngp, rtol=0, atol=8e-16 * np.abs(kernels.ntk).max())


@pytest.mark.usefixtures("optimized")
def test_tiles():
    conformance.check_tiles(SMALL, 19)


@pytest.mark.slow
@pytest.mark.parametrize("subject", [WINDOWS, GLOBAL], ids=lambda subject: subject.name)
def test_derivatives(subject):
    conformance.check_derivatives(subject)


SHRINKING = architecture("shrinking", Lift((3, 3), "VALID", "C2", b_std=0.2), Relu(), AvgPool((2, 2)), GroupPool(), depth=1,
                         kinked=True, moved=HALF_TURN)  # fmt: skip


@pytest.mark.slow
def test_derivatives_in_single_precision():
    """Finite, where values without meaning stand beside the others."""
    conformance.check_derivatives(SHRINKING, np.float32)
