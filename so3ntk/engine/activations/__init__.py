"""Nonlinearities: their duals E[phi(u) phi(v)] and E[phi'(u) phi'(v)] in closed form."""

from so3ntk.engine.activations.abs import Abs
from so3ntk.engine.activations.base import Activation
from so3ntk.engine.activations.elementwise import Elementwise
from so3ntk.engine.activations.erf import Erf, SigmoidLike
from so3ntk.engine.activations.exponential import Exp
from so3ntk.engine.activations.gelu import Gelu
from so3ntk.engine.activations.layer_norm import LayerNorm
from so3ntk.engine.activations.leaky_relu import LeakyRelu
from so3ntk.engine.activations.monomial import Monomial
from so3ntk.engine.activations.polynomial import Hermite, Polynomial
from so3ntk.engine.activations.products import Products
from so3ntk.engine.activations.relu import Relu
from so3ntk.engine.activations.sign import Sign
from so3ntk.engine.activations.trigonometric import Cos, Rbf, Sin

__all__ = [
    "Abs",
    "Activation",
    "Cos",
    "Elementwise",
    "Erf",
    "Exp",
    "Gelu",
    "Hermite",
    "LayerNorm",
    "LeakyRelu",
    "Monomial",
    "Polynomial",
    "Products",
    "Rbf",
    "Relu",
    "SigmoidLike",
    "Sign",
    "Sin",
]
