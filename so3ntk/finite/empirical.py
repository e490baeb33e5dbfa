r"""Kernels of finite networks: of given parameters, and their averages over random ones.

For outputs f(x) with C channels and parameters p,

.. math:: K(x, x') = \frac1C \sum_c f_c(x) f_c(x'), \qquad
          \Theta(x, x') = \frac1C \sum_c \sum_p \frac{\partial f_c(x)}{\partial p} \frac{\partial f_c(x')}{\partial p},

neural-tangents' ``trace_axes=(-1,)``. Averaged over the parameters that ``init_fn`` draws they tend to the kernels of
``kernel_fn`` as all widths grow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from tqdm.auto import tqdm

from so3ntk.basics.arrays import as_numbers
from so3ntk.engine.features import HIGHEST
from so3ntk.engine.layers.dense import Dense
from so3ntk.engine.network import Kernels, Network, check_get
from so3ntk.engine.parametrization import Scales
from so3ntk.engine.plan import parts_of_both, read_signals, split_at_reduction

#: Bytes that the Jacobians of one tile may take where ``batch`` is not given.
JACOBIAN_BYTES = 2**28
#: Draws of one dispatch to the device: a step of the progress bar.
CHUNK = 16


def nngp(apply_fn: Callable) -> Callable:
    """The function ``kernel(params, x1, x2=None, batch=None)``: the (N1, N2) means over channels of f(x) f(x').

    x1, x2: what ``apply_fn(params, x)`` reads, indexable along the batch; its outputs must be (N, C), else ValueError.
    batch: inputs evaluated at once, by default all. Works under jit.
    """
    outputs = jax.jit(partial(_outputs, apply_fn))

    def kernel(params: PyTree, x1: Any, x2: Any = None, batch: int | None = None) -> Float[Array, "n m"]:
        _check_batch("empirical.nngp", batch)

        def read(x):
            return jnp.concatenate([outputs(params, part) for part in _split(_arrays(x), batch or len(x))])

        f = read(x1)
        return _mean_of_products(f, f if x2 is None else read(x2))

    return kernel


def ntk(apply_fn: Callable) -> Callable:
    """The function ``kernel(params, x1, x2=None, batch=None)``: the (N1, N2) means over channels of df(x) . df(x').

    x1, x2: as for ``nngp``. batch: rows and columns of one tile. A tile holds the Jacobians of one channel for its
    inputs, 2 batch numbers for each parameter, whatever N and C are; the default keeps these below 256 MiB. Each input's
    derivatives are computed once for every tile it is in, so large tiles are fast. With x2 None the result is symmetric
    to the bit. Works under jit, where the loop over tiles is unrolled.
    """
    tile = jax.jit(partial(_ntk_tile, apply_fn))

    def kernel(params: PyTree, x1: Any, x2: Any = None, batch: int | None = None) -> Float[Array, "n m"]:
        _check_batch("empirical.ntk", batch)
        size = batch or _largest_batch(params)
        rows = list(_split(_arrays(x1), size))
        if x2 is not None:
            columns = list(_split(_arrays(x2), size))
            return jnp.concatenate([jnp.concatenate([tile(params, a, b) for b in columns], axis=1) for a in rows])
        lower = [[tile(params, a, None if i == j else b) for j, b in enumerate(rows[: i + 1])]
                 for i, a in enumerate(rows)]  # fmt: skip
        return jnp.concatenate([
            jnp.concatenate([*line, *(lower[j][i].T for j in range(i + 1, len(rows)))], axis=1)
            for i, line in enumerate(lower)
        ])  # fmt: skip

    return kernel


class Average(NamedTuple):
    """Kernels averaged over draws of the parameters.

    mean, error: an array (N1, N2) each for one name of ``get``, ``Kernels`` for several; in float64, on the host. error:
    the standard error of the mean, from the scatter of the draws. draws: how many.
    """

    mean: np.ndarray | Kernels
    error: np.ndarray | Kernels
    draws: int


def monte_carlo(
    net: Network,
    x1: Any,
    x2: Any = None,
    *,
    draws: int = 256,
    key: Array | int = 0,
    get: str | Sequence[str] = ("nngp", "ntk"),
    hidden: bool = True,
    batch: int | None = None,
    progress: bool = True,
) -> Average:
    """The kernels of a finite network averaged over random parameters, with standard errors.

    key: a seed or a JAX key. hidden: the NNGP of a network that ends in ``Dense`` is the mean over the channels of the
    features before it, mapped by W^2 K + b^2, which is its exact expectation over the last weights; far less noisy than
    the products of the outputs (hidden=False). batch: inputs per tile, as in ``ntk``. progress: a bar that counts draws.
    Draws run in single file on the device, and only sums are kept.

    The result differs from the infinite-width kernels by O(1 / width) and by what the finite network's grid cannot
    resolve: white-noise filters of ``GroupConv`` are cut at its bandlimit.
    Raises ValueError for fewer than two draws, a layer without width, or a network that ends before pooling.
    """
    names = check_get(get)
    _check_batch("empirical.monte_carlo", batch)
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 2:
        raise ValueError(f"empirical.monte_carlo: expected draws >= 2, which a standard error needs, got {draws!r}.")
    x1, x2 = _arrays(x1), None if x2 is None else _arrays(x2)
    keys = jax.random.split(jax.random.key(key) if isinstance(key, int | np.integer) else key, int(draws))
    total = {name: _Moments() for name in names}
    with tqdm(total=int(draws), unit="draw", disable=not progress) as bar:
        for start in range(0, len(keys), CHUNK):
            chosen = keys[start : start + CHUNK]
            padded = keys[jnp.arange(start, start + min(CHUNK, len(keys))) % len(keys)]  # one compiled program
            for name, values in zip(names, _draw_all(net, padded, x1, x2, names, hidden, batch), strict=True):
                total[name].add(np.asarray(values, np.float64)[: len(chosen)])
            bar.update(len(chosen))
    mean, error = ({name: getattr(total[name], kind) for name in names} for kind in ("mean", "error"))
    if isinstance(get, str):
        return Average(mean[get], error[get], int(draws))
    means, errors = (Kernels(found.get("nngp"), found.get("ntk")) for found in (mean, error))
    return Average(means, errors, int(draws))


class _Moments:
    """Running mean and scatter of arrays, by blocks (Chan et al.): sums of squares would cancel."""

    def __init__(self):
        self.count, self.mean, self._scatter = 0, np.zeros(()), np.zeros(())

    def add(self, values: Float[np.ndarray, "draws n m"]) -> None:
        new, before = len(values), self.count
        mean = values.mean(axis=0)
        step = mean - self.mean
        self.count = before + new
        self.mean = self.mean + step * (new / self.count)
        self._scatter = self._scatter + ((values - mean) ** 2).sum(axis=0) + step**2 * (before * new / self.count)

    @property
    def error(self) -> Float[np.ndarray, "n m"]:
        return np.sqrt(self._scatter / (self.count * (self.count - 1)))


@eqx.filter_jit
def _draw_all(net: Network, keys: Array, x1: Any, x2: Any, names: tuple[str, ...], hidden: bool,
              batch: int | None) -> tuple[Array, ...]:  # fmt: skip
    body, last = _without_last_dense(net) if hidden else (net, None)
    layers, reduction, _ = split_at_reduction(net.layers)
    arrays = read_signals(layers, parts_of_both(reduction, x1, x2)[0].signals)

    def draw(key):
        _, params = net.init_fn(key, arrays.shape, arrays.dtype)
        found = {}
        if "nngp" in names:
            inner = nngp(body.apply_fn)(params[: len(params) - (last is not None)], x1, x2, batch)
            found["nngp"] = inner if last is None else _after_dense(inner, last)
        if "ntk" in names:
            found["ntk"] = ntk(net.apply_fn)(params, x1, x2, batch)
        return tuple(found[name] for name in names)

    return jax.lax.map(draw, keys)


def _without_last_dense(net: Network) -> tuple[Network, Dense | None]:
    """The network before its last layer, and that layer, if it is a ``Dense`` after others."""
    last = net.layers[-1]
    if not isinstance(last, Dense) or len(net.layers) < 2:
        return net, None
    return dataclasses.replace(net, layers=net.layers[:-1]), last


def _after_dense(kernel: Float[Array, "n m"], dense: Dense) -> Float[Array, "n m"]:
    scales = Scales.of("Dense", dense.W_std, dense.b_std, "ntk", None)  # the NNGP is the same in both parametrisations
    scaled = kernel * scales.weight
    return scaled if scales.bias is None else scaled + scales.bias


def _outputs(apply_fn: Callable, params: PyTree, x: Any) -> Float[Array, "n c"]:
    outputs = apply_fn(params, x)
    if outputs.ndim != 2:
        raise ValueError(
            f"empirical: expected outputs (N, C), got {outputs.shape}. A network that ends before pooling has a kernel "
            "for each motion; end it with GroupPool(), or pass a function that picks one motion."
        )
    return outputs


def _mean_of_products(f: Float[Array, "n c"], g: Float[Array, "m c"]) -> Float[Array, "n m"]:
    return jnp.matmul(f, g.T, precision=HIGHEST) / f.shape[1]


def _ntk_tile(apply_fn: Callable, params: PyTree, a: Any, b: Any) -> Float[Array, "n m"]:
    """The tangent kernel of two small batches (b None: of a with itself), channel after channel."""
    outputs = partial(_outputs, apply_fn)
    channels = jax.eval_shape(outputs, params, a).shape[1]

    def channel(c):
        left = _jacobian(outputs, params, a, c)
        right = left if b is None else _jacobian(outputs, params, b, c)
        terms = jax.tree.map(lambda u, v: jnp.matmul(u, v.T, precision=HIGHEST), left, right)
        return sum(jax.tree.leaves(terms))  # pyright: ignore[reportReturnType]

    total = jnp.sum(jax.lax.map(channel, jnp.arange(channels)), axis=0) / channels
    return total if b is not None else jnp.tril(total) + jnp.tril(total, -1).T


def _jacobian(outputs: Callable, params: PyTree, x: Any, channel: Array) -> PyTree:
    """The derivatives of one channel in the parameters, (n, size) for each array of them."""
    if all(leaf.shape[:1] == (len(x),) for leaf in jax.tree.leaves(x)):
        # One input at a time: the derivatives of a batch's outputs would each run back through the whole batch.
        def one(x):
            return jax.grad(lambda p: outputs(p, jax.tree.map(lambda leaf: leaf[None], x))[0, channel])(params)

        derivatives = jax.vmap(one)(x)
    else:  # molecules: their atoms share one axis
        derivatives = jax.jacrev(lambda p: outputs(p, x)[:, channel])(params)
    return jax.tree.map(lambda d: d.reshape(len(x), -1), derivatives)


def _largest_batch(params: PyTree) -> int:
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return max(1, JACOBIAN_BYTES // (2 * max(size, 1)))


def _arrays(x: Any) -> PyTree:
    """A batch as a pytree of arrays: a data set by its images, lists as arrays."""
    x = getattr(x, "images", x)
    return jnp.asarray(as_numbers(x, "empirical: the inputs")) if isinstance(x, np.ndarray | list | tuple) else x


def _split(x: Any, batch: int) -> Iterator[Any]:
    count = math.ceil(len(x) / batch) if len(x) else 1
    return (x[i * batch : (i + 1) * batch] for i in range(count))


def _check_batch(where: str, batch: object) -> None:
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 1):
        raise ValueError(f"{where}: expected batch, inputs per tile, to be a positive integer or None, got {batch!r}.")
