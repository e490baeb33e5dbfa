"""Any network of planar by the direct recursion on pairs of pixels, layer by layer in NumPy.

The images of both batches make one batch of N, and each of them enters with every turn and reflection h: kernels are
K[i, j, h, x, y, x', y'] of image i with image h j, so that variances are read off kernels at equal pixels and no
recursion of variances, nor any displacement, is needed. Padding is done with np.pad, turns with np.rot90. Layers are
known by their class and hyperparameters; duals are those of tests/oracles/duals.py.
"""

from __future__ import annotations

import dataclasses
import functools
from itertools import product
from typing import Any

import numpy as np

import planar
import so3ntk
from so3ntk.engine.activations import Activation
from so3ntk.engine.layers import Layer, Parallel
from so3ntk.engine.network import Network
from tests.oracles.duals import DUALS

TURNS = {"C1": [(0, 0)], "C2": [(0, 0), (2, 0)], "C4": [(k, 0) for k in range(4)],
         "D4": [(k, m) for m in (0, 1) for k in range(4)]}  # fmt: skip


@dataclasses.dataclass
class Kernels:
    """Of all pairs (N, N, h, ...), of h j with itself (N, h, ...), the tangent kernel, and the width of the features."""

    pair: np.ndarray
    own: np.ndarray
    tangent: np.ndarray
    width: int | None

    def map(self, function) -> Kernels:
        """The same linear map of every kernel."""
        return Kernels(function(self.pair), function(self.own), function(self.tangent), self.width)

    @property
    def variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Of both images of a pair at their pixels, to be broadcast against ``pair``."""
        q = np.einsum("jhabab->jhab", self.own) if self.own.ndim == 6 else self.own
        dots = (..., *[None] * (q.ndim - 2))
        return q[:, None, :1][dots], q[None].reshape(1, *q.shape[:2], *[1] * (q.ndim - 2), *q.shape[2:])


def evaluate(net: Network, f: np.ndarray, g: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK, each (n, m), of images (n, H, W, C) and (m, H, W, C); g None: of f with itself."""
    return tuple(kernel[:, :, 0] for kernel in evaluate_field(net, f, g))  # pyright: ignore[reportReturnType]


def evaluate_field(net: Network, f: np.ndarray, g: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and NTK before pooling, each (n, m, h, x, y, x', y'): pixels of f and of h g."""
    state = _run(net, np.asarray(f if g is None else np.concatenate([f, g]), np.float64))
    first = 0 if g is None else len(f)
    return state.pair[: len(f), first:], state.tangent[: len(f), first:]


def image_kernels(f, g, layers, group="C1", head=(1.0, 0.0)) -> np.ndarray:
    """NNGP and NTK of two images (n, m, c) after ``layers``, pooling over pixels and group, and a dense layer (W, b).

    layers: "relu" or "erf"; (k, padding, W_std, b_std) for a convolution, of which the first lifts.
    """
    (size, padding, W_std, b_std), *rest = layers
    body: list[Layer] = [planar.Lift((size, size), padding, group, W_std=W_std, b_std=b_std)]
    for layer in rest:
        if isinstance(layer, str):
            body.append({"relu": so3ntk.Relu, "erf": so3ntk.Erf}[layer]())
        else:
            body.append(planar.GroupConv((layer[0],) * 2, layer[1], W_std=layer[2], b_std=layer[3]))
    net = so3ntk.serial(*body, planar.GroupPool(), so3ntk.Dense(W_std=head[0], b_std=head[1]))
    return np.array([kernel[0, 0] for kernel in evaluate(net, f[None], g[None])])


def turned(images: np.ndarray, group: str) -> np.ndarray:
    """Images (N, H, W, C) under each element: (N, h, H, W, C)."""
    return np.stack([np.rot90(images[:, :, ::-1] if m else images, k, (1, 2)) for k, m in TURNS[group]], axis=1)


@functools.singledispatch
def _run(layer: Any, state: Any) -> Any:
    raise NotImplementedError(type(layer).__name__)


@_run.register
def _(layer: Network, state):
    for inner in layer.layers:
        state = _run(inner, state)
    return state


@_run.register
def _(layer: planar.Lift, state):
    views, channels = turned(state, layer.group), state.shape[-1]
    pair = np.einsum("iabu,jhcdu->ijhabcd", state, views) / channels
    own = np.einsum("jhabu,jhcdu->jhabcd", views, views) / channels
    return _convolve(layer, Kernels(pair, own, 0 * pair, channels), 1)


@_run.register
def _(layer: planar.Flatten, state):
    rows = state.reshape(len(state), -1)
    pair = (rows @ rows.T / rows.shape[1])[..., None]
    return Kernels(pair, np.einsum("iih->ih", pair), 0 * pair, rows.shape[1])


@_run.register
def _(layer: planar.GroupConv, state):
    return _convolve(layer, state, state.pair.shape[2])


def _convolve(layer, state: Kernels, elements: int) -> Kernels:
    pixels = elements * layer.window.size**2 if layer.window else 1
    return _affine(layer, state.map(lambda kernel: _average(kernel, layer.window)), pixels)


@_run.register
def _(layer: so3ntk.Dense, state):
    return _affine(layer, state, 1)


def _affine(layer, state: Kernels, pixels: int) -> Kernels:
    weight, bias = float(layer.W_std) ** 2, 0.0 if layer.b_std is None else float(layer.b_std) ** 2
    gain, bias_gain = weight, bias
    if layer.parametrization == "standard":
        assert state.width is not None
        gain, bias_gain = pixels * state.width, 0.0 if layer.b_std is None else 1.0
    tangent = gain * state.pair + bias_gain + weight * state.tangent
    return Kernels(weight * state.pair + bias, weight * state.own + bias, tangent, layer.width)


def _average(kernel: np.ndarray, window) -> np.ndarray:
    """Over the pixels of a window at x and at x'; None: of the whole torus."""
    axes = (-4, -3, -2, -1)
    if window is None or window.padding == "CIRCULAR":
        sides = kernel.shape[-2:] if window is None else (window.size,) * 2
        shifts = product(*(range(-((side - 1) // 2), side // 2 + 1) for side in sides))
        return np.sum([np.roll(kernel, (-i, -j, -i, -j), axes) for i, j in shifts], axis=0) / np.prod(sides)
    size = window.size
    if window.padding == "SAME":
        kernel = np.pad(kernel, [(0, 0)] * (kernel.ndim - 4) + [((size - 1) // 2, size // 2)] * 4)
    rows, columns = ([slice(i, i + n - size + 1) for i in range(size)] for n in kernel.shape[-2:])
    return np.sum([kernel[..., a, b, a, b] for a in rows for b in columns], axis=0) / size**2


@_run.register
def _(layer: planar.AvgPool, state):
    w = layer.window

    def tiles(kernel):
        n, m = (side // w for side in kernel.shape[-2:])
        return kernel.reshape(*kernel.shape[:-4], n, w, m, w, n, w, m, w).mean(axis=(-1, -3, -5, -7))

    return state.map(tiles)


@_run.register
def _(layer: planar.Subsample, state):
    rows, columns = kept = [positions_kept(layer, m) for m in state.pair.shape[-2:]]
    assert all(len(each) for each in kept)
    return state.map(lambda kernel: kernel[..., rows, :, :, :][..., columns, :, :][..., rows, :][..., columns])


def positions_kept(layer: planar.Subsample, m: int) -> np.ndarray:
    """By trying all first positions: the longest row of steps that lies evenly about the centre, or the one of its offset."""
    if layer.offset is not None:
        return np.arange(layer.offset, m, layer.stride)
    rows = [np.arange(first, last + 1, layer.stride) for first in range(m) for last in range(first, m)]
    return max((row for row in rows if row[0] + row[-1] == m - 1), key=len, default=np.arange(0))


@_run.register
def _(layer: Activation, state):
    q1, q2 = state.variances
    dual = DUALS[type(layer).__name__.lower()]
    pair, slope = dual(state.pair, q1, q2)
    q = np.einsum("jhabab->jhab", state.own) if state.own.ndim == 6 else state.own
    both = (q[..., None, None], q[..., None, None, :, :]) if state.own.ndim == 6 else (q, q)
    return Kernels(pair, dual(state.own, *both)[0], slope * state.tangent, state.width)


@_run.register
def _(layer: so3ntk.Products, state):
    terms = [(k, float(c)) for k, c in enumerate(layer.coefficients) if c is not None]
    pair, own = (sum(c * kernel**k for k, c in terms) for kernel in (state.pair, state.own))
    slope = sum(c * k * state.pair ** (k - 1) for k, c in terms if k)
    return Kernels(pair, own, slope * state.tangent, state.width and state.width // (len(layer.coefficients) - 1))


@_run.register
def _(layer: planar.GroupPool, state):
    pair, tangent = (
        kernel.mean(axis=tuple(range(2, kernel.ndim)))[..., None] for kernel in (state.pair, state.tangent)
    )
    return Kernels(pair, np.einsum("iih->ih", pair), tangent, state.width)


@_run.register
def _(layer: so3ntk.Identity, state):
    return state


@_run.register
def _(layer: so3ntk.FanOut, state):
    return [state] * layer.branches


@_run.register
def _(layer: Parallel, state):
    return [_run(inner, branch) for inner, branch in zip(layer.layers, state, strict=True)]


@_run.register
def _(layer: so3ntk.FanInSum, state):
    pair, own, tangent = (sum(getattr(s, name) for s in state) for name in ("pair", "own", "tangent"))
    return Kernels(pair, own, tangent, state[0].width)  # pyright: ignore[reportArgumentType]
