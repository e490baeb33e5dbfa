"""Nonlinearities: their duals E[phi(u) phi(v)] and E[phi'(u) phi'(v)] in closed form."""

from so3ntk.activations.abs import Abs
from so3ntk.activations.base import Activation
from so3ntk.activations.elementwise import Elementwise
from so3ntk.activations.erf import Erf, SigmoidLike
from so3ntk.activations.gelu import Gelu
from so3ntk.activations.leaky_relu import LeakyRelu
from so3ntk.activations.monomial import Monomial
from so3ntk.activations.relu import Relu
from so3ntk.activations.sign import Sign
from so3ntk.activations.trigonometric import Cos, Sin

__all__ = [
    "Abs",
    "Activation",
    "Cos",
    "Elementwise",
    "Erf",
    "Gelu",
    "LeakyRelu",
    "Monomial",
    "Relu",
    "SigmoidLike",
    "Sign",
    "Sin",
]
