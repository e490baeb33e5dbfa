"""Closed-form duals in NumPy and float64, and one step of each layer: the arithmetic the slow oracles share."""

from __future__ import annotations

import numpy as np


def relu(c, q1, q2):
    """E[relu relu], E[relu' relu'] (Cho & Saul 2009)."""
    norm = np.sqrt(q1 * q2)
    cosine = np.clip(np.divide(c, norm, out=np.zeros(np.broadcast(c, norm).shape), where=norm > 0), -1, 1)
    theta = np.arccos(cosine)
    return norm * (np.sin(theta) + (np.pi - theta) * cosine) / (2 * np.pi), (np.pi - theta) / (2 * np.pi)


def erf(c, q1, q2):
    """E[erf erf], E[erf' erf'] (Williams 1997)."""
    product = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / np.pi * np.arcsin(2 * c / np.sqrt(product)), 4 / np.pi / np.sqrt(product - 4 * c**2)


def gelu(c, q1, q2):
    """E[gelu gelu] and its derivative in c, by E[u v Phi(u) Phi(v)] (Tsuchida et al. 2021)."""
    product = (1 + q1) * (1 + q2)
    rest = product - c**2
    angle = np.arcsin(c / np.sqrt(product))
    value = c / 4 + (c * angle + (q1 * q2 * rest + c**2) / (product * np.sqrt(rest))) / (2 * np.pi)
    slope = 0.25 + (angle + c / np.sqrt(rest) * (1 / (1 + q1) + 1 / (1 + q2) + 1 / rest)) / (2 * np.pi)
    return value, slope


DUALS = {"relu": relu, "erf": erf, "gelu": gelu}


def dense(kernel, tangent, W_std=1.0, b_std=0.0):
    """K <- W^2 K + b^2, Theta <- K + W^2 Theta."""
    kernel = W_std**2 * kernel + b_std**2
    return kernel, kernel + W_std**2 * tangent


def mlp(c, q1, q2, layers):
    """NNGP and NTK of a fully connected network that begins with inputs of kernel c and variances q1, q2.

    layers: names of ``DUALS``, or pairs (W_std, b_std) for a dense layer. Arrays broadcast.
    """
    kernel, tangent = c, np.zeros(np.broadcast(c, q1, q2).shape)
    for layer in layers:
        if isinstance(layer, str):
            kernel, slope = DUALS[layer](kernel, q1, q2)
            tangent = tangent * slope
            q1, q2 = DUALS[layer](q1, q1, q1)[0], DUALS[layer](q2, q2, q2)[0]
        else:
            kernel, tangent = dense(kernel, tangent, *layer)
            q1, q2 = (dense(q, 0, *layer)[0] for q in (q1, q2))
    return kernel, tangent
