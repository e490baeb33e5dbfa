"""Any network of the engine on a grid of rotations, layer by layer in NumPy: what the conformance harness compares with.

A pair of batches is three fields, of (f, f'), (f, f) and (f', f'), of shapes (n, m, r), (n, 1, r) and (1, m, r). The
last rotation is the identity, with weight zero: the variance of f is the value of the field (f, f) there, after every
layer alike, so that no recursion of variances is needed. Layers are known by their class and hyperparameters; the only
code shared with the engine is the activations' duals, which tests/engine/activations compares with integrals.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import so3ntk
from so3ntk.engine.activations import Activation
from so3ntk.engine.layers import Parallel
from so3ntk.engine.network import Network
from tests.oracles.harmonics import rotated, wigner


class Fields(NamedTuple):
    """The three kernels of the head of this file, the tangent kernel of (f, f'), and the width of the features."""

    pair: np.ndarray
    own: np.ndarray
    other: np.ndarray
    tangent: np.ndarray
    width: int | None


class Motions(NamedTuple):
    """Rotation matrices (r, 3, 3), the identity last, and weights (r,), zero for that one."""

    matrices: np.ndarray
    weights: np.ndarray


def evaluate(net: Network, f: np.ndarray, g: np.ndarray, rotations, weights) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK, each (n, m), of coefficients (n, p, c) and (m, p, c) in float64."""
    matrices = np.concatenate([rotations.as_matrix(), np.eye(3)[None]])
    motions = Motions(matrices, np.append(weights, 0.0))
    state = _run(net, (np.asarray(f, np.float64), np.asarray(g, np.float64)), motions)
    return state.pair[..., 0], state.tangent[..., 0]


def evaluate_field(net: Network, f: np.ndarray, g: np.ndarray, rotations) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK before pooling, each (n, m, r), at the given rotations."""
    motions = Motions(np.concatenate([rotations.as_matrix(), np.eye(3)[None]]), np.zeros(0))
    state = _run(net, (np.asarray(f, np.float64), np.asarray(g, np.float64)), motions)
    return state.pair[..., :-1], state.tangent[..., :-1]


@functools.singledispatch
def _run(layer: Any, state: Any, motions: Motions) -> Any:
    raise NotImplementedError(type(layer).__name__)


@_run.register
def _(layer: Network, state, motions):
    for inner in layer.layers:
        state = _run(inner, state, motions)
    return state


@_run.register
def _(layer: so3ntk.Lift, state, motions):
    kept = layer.kept_bandlimit(round(state[0].shape[1] ** 0.5)) ** 2
    channels = state[0].shape[2]
    weights = np.ones((kept, channels)) / (4 * np.pi * channels)
    if layer.channel_weights is not None:
        weights = weights * np.asarray(layer.channel_weights)
    if layer.variances is not None:
        weights = weights * np.asarray(layer.variances)[np.sqrt(np.arange(kept)).astype(int)][:, None]
    f, g = (signal[:, :kept] for signal in state)
    f_moved, g_moved = (rotated(signal, motions.matrices) for signal in (f, g))
    pair = np.einsum("pc,npc,rmpc->nmr", weights, f, g_moved, optimize=True)
    own, other = (np.einsum("pc,npc,rnpc->nr", weights, *both, optimize=True) for both in ((f, f_moved), (g, g_moved)))
    return _affine(layer, Fields(pair, own[:, None], other[None], 0 * pair, channels))


@_run.register
def _(layer: so3ntk.Flatten, state, motions):
    f, g = state
    norm = 4 * np.pi * f.shape[2]
    pair = np.einsum("npc,mpc->nm", f, g)[..., None] / norm
    own, other = (np.einsum("npc,npc->n", a, a) / norm for a in (f, g))
    return Fields(pair, own[:, None, None], other[None, :, None], 0 * pair, f.shape[2])


@_run.register(so3ntk.Dense)
@_run.register(so3ntk.GroupConv)
def _(layer, state, motions):
    if isinstance(layer, so3ntk.GroupConv) and layer.bandlimit is not None:
        spectrum = np.ones(layer.bandlimit) if layer.variances is None else np.asarray(layer.variances)
        state = Fields(*(_filtered(field, spectrum[: layer.bandlimit], motions) for field in state[:4]), state.width)
    return _affine(layer, state)


def _affine(layer, state: Fields) -> Fields:
    weight, bias = float(layer.W_std) ** 2, 0.0 if layer.b_std is None else float(layer.b_std) ** 2
    gain, bias_gain = weight, bias
    if layer.parametrization == "standard":
        assert state.width is not None
        gain, bias_gain = state.width, 0.0 if layer.b_std is None else 1.0
    tangent = gain * state.pair + bias_gain + weight * state.tangent
    return Fields(*(weight * field + bias for field in state[:3]), tangent, layer.width)


def _filtered(field: np.ndarray, spectrum: np.ndarray, motions: Motions) -> np.ndarray:
    """sum_l v_l (2l + 1) sum_mn D^l_mn(r) int D^l_mn(s) K(s) ds."""
    total = np.zeros_like(field)
    for degree, variance in enumerate(spectrum):
        table = wigner(motions.matrices, degree).reshape(len(motions.weights), -1)
        total += variance * (2 * degree + 1) * ((field * motions.weights) @ table) @ table.T
    return total


@_run.register
def _(layer: Activation, state, motions):
    q1, q2 = state.own[..., -1:], state.other[..., -1:]
    pair, slope = _duals(layer, state.pair, q1, q2)
    own, other = (_duals(layer, field, q, q)[0] for field, q in ((state.own, q1), (state.other, q2)))
    return Fields(pair, own, other, slope * state.tangent, state.width)


@_run.register
def _(layer: so3ntk.Products, state, motions):
    terms = [(k, float(c)) for k, c in enumerate(layer.coefficients) if c is not None]
    pair, own, other = (sum(c * field**k for k, c in terms) for field in state[:3])
    slope = sum(c * k * state.pair ** (k - 1) for k, c in terms if k)
    return Fields(pair, own, other, slope * state.tangent, state.width and state.width // (len(layer.coefficients) - 1))


def _duals(layer, *arguments) -> tuple[np.ndarray, ...]:
    """Both duals on broadcast arrays, always with arrays of one size, so that they are compiled once for all grids."""
    arguments = np.broadcast_arrays(*arguments)
    size = arguments[0].size
    padded = (np.resize(a, (-(-size // 2048), 2048)) for a in arguments)
    values = [_jitted(layer, *map(jnp.asarray, rows)) for rows in zip(*padded, strict=True)]
    return tuple(np.concatenate(each)[:size].reshape(arguments[0].shape) for each in zip(*values, strict=True))


@eqx.filter_jit
def _jitted(layer, *triple):
    return layer.dual(*triple), layer.derivative_dual(*triple)


@_run.register
def _(layer: so3ntk.GroupPool, state, motions):
    return Fields(*((field @ motions.weights)[..., None] for field in state[:4]), state.width)


@_run.register
def _(layer: so3ntk.Identity, state, motions):
    return state


@_run.register
def _(layer: so3ntk.FanOut, state, motions):
    return [state] * layer.branches


@_run.register
def _(layer: Parallel, state, motions):
    return [_run(inner, branch, motions) for inner, branch in zip(layer.layers, state, strict=True)]


@_run.register
def _(layer: so3ntk.FanInSum, state, motions):
    return Fields(*(sum(fields) for fields in zip(*(branch[:4] for branch in state), strict=True)), state[0].width)
