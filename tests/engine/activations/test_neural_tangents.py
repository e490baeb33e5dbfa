"""Kernels of a fully connected network against values frozen from neural-tangents."""

import json
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from so3ntk.engine.activations import Abs, Cos, Erf, Gelu, LeakyRelu, Monomial, Relu, SigmoidLike, Sign, Sin

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "activation_values.json").read_text())

ACTIVATIONS = {
    "Relu": Relu(),
    "LeakyRelu": LeakyRelu(0.3),
    "Abs": Abs(),
    "Erf": Erf(),
    "Erf affine": Erf(1.4, 0.7, 0.3),
    "SigmoidLike": SigmoidLike(),
    "Gelu": Gelu(),
    "Sin": Sin(),
    "Sin affine": Sin(1.4, 0.7, 0.3),
    "Cos": Cos(),
    "Cos affine": Cos(1.4, 0.7, 0.3),
    "Sign": Sign(),
    **{f"Monomial {degree}": Monomial(degree) for degree in range(6)},
}


@cache
@partial(jax.jit, static_argnums=0)
def kernels(activation):
    """Dense, activation, Dense, activation, Dense, written out."""
    x1, x2 = jnp.asarray(REFERENCE["x1"]), jnp.asarray(REFERENCE["x2"])
    weight, bias = REFERENCE["W_std"] ** 2, REFERENCE["b_std"] ** 2
    nngp = weight * jnp.mean(x1[:, None] * x2[None], axis=-1) + bias
    q1, q2 = (weight * jnp.mean(x * x, axis=-1) + bias for x in (x1, x2))
    q1, q2 = q1[:, None], q2[None]
    ntk = nngp
    for _ in range(2):
        ntk = weight * activation.derivative_dual(nngp, q1, q2) * ntk
        nngp = weight * activation.dual(nngp, q1, q2) + bias
        ntk = nngp + ntk
        q1, q2 = (weight * activation.variance(q) + bias for q in (q1, q2))
    return {"nngp": nngp, "ntk": ntk}


def test_every_reference_is_used():
    assert REFERENCE["kernels"].keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_agrees_with_neural_tangents(name, kernel):
    """Between equal or opposite inputs, what a kink amplifies has rounding errors of sqrt(eps) there."""
    activation = ACTIVATIONS[name]
    expected = np.asarray(REFERENCE["kernels"][name][kernel])
    amplified = activation.smoothness == 0.5 and (kernel == "ntk" or name == "Sign")
    tolerance = np.full_like(expected, 1e-12)
    if amplified:
        tolerance[[0, 1, 0], [0, 1, 2]] = 8 * np.sqrt(np.finfo(float).eps)
    error = np.abs(kernels(activation)[kernel] - expected)
    assert np.all(error <= tolerance * np.abs(expected).max())
