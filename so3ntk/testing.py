"""Checks that every network's kernels pass, for an author of a group, a layer or an activation: an AssertionError says what fails.

    so3ntk.testing.check_network(net, x, moved=lambda x: np.roll(x, 3, axis=1))

Values need an oracle of your own (docs/new-group.md: the mean over explicit motions); these checks need none. ``x`` is a batch
of a few distinct signals, in double precision (``jax_enable_x64``), without one that vanishes. An ``error`` is relative to
sqrt(K(x, x) K(x', x')); where none is given it is 1e-11, and the root of that for NTKs of activations with kinks on pairs that
coincide, whose correlation is known to rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from so3ntk.engine.geometry import Field, Geometry, Signal
from so3ntk.engine.layers.base import flatten
from so3ntk.engine.network import Kernels, Network
from so3ntk.engine.plan import make_plan
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.gram import gram

__all__ = [
    "check_derivatives",
    "check_diagonal",
    "check_evaluations",
    "check_geometry",
    "check_invariance",
    "check_network",
    "check_positive",
    "check_single_precision",
    "check_symmetry",
    "check_tiles",
]

ERROR = 1e-11


def check_network(net: Network, x: Any, moved: Callable[[Any], Any] | None = None, error: float = ERROR) -> None:
    """All checks of a pooled network; invariance if a motion of the group is given, by what it does to a batch.

    ValueError for signals in single precision, in which differences are no yardstick of derivatives.
    """
    _require_double("check_network", x)
    check_symmetry(net, x, error)
    check_positive(net, x, error)
    check_evaluations(net, x, error)
    check_tiles(net, x, error)
    check_diagonal(net, x, error)
    check_single_precision(net, x)
    check_derivatives(net, x)
    if moved is not None:
        check_invariance(net, x, moved, error)


def _require_double(where: str, signals: Any) -> None:
    for leaf in jax.tree.leaves(signals):
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 64:
            raise ValueError(
                f"{where}: expected signals in double precision, got {dtype}. Call "
                'jax.config.update("jax_enable_x64", True) before they are made.'
            )


def check_symmetry(net: Network, x: Any, error: float = ERROR) -> None:
    """K(x) is symmetric to the bit, and K(x, x) of two batches is the same and its own transpose."""
    own, both = net.kernel_fn(x), net.kernel_fn(x, x)
    for kernel in own:
        np.testing.assert_array_equal(kernel, _turned(kernel), "K(x) is not symmetric")
    _assert_close(net, both, own, own, error, "K(x, x) is not K(x)")


def check_positive(net: Network, x: Any, error: float = ERROR) -> None:
    """No eigenvalue is negative beyond the error. Of numbers; blocks of an irrep are one matrix."""
    for name, kernel in net.kernel_fn(x)._asdict().items():
        values = np.linalg.eigvalsh(_matrix(np.asarray(kernel, np.float64)))
        bound = _error_of(net, name, error) * values[-1]
        assert values[0] >= -bound, f"{name} has the eigenvalue {values[0]:.1e}, its largest is {values[-1]:.1e}"


def check_evaluations(net: Network, x: Any, error: float = ERROR) -> None:
    """Layer by layer the values are those of the evaluation that the space chose (a tower's polynomial, for one).

    Networks that end in a sum over parts, and signals so far from one that they are scaled, are not compared.
    """
    plan = make_plan(net.layers, net.quadrature, net.rtol, x, None)
    names = ("nngp", "ntk")
    own = net.kernel_fn(x)
    if plan.tail or plan.reduces or plan.scaling is not None:
        return
    pairs = eqx.filter_jit(lambda evaluation, f, g: evaluation.pairs(f, g, names).kernels)  # else hundreds of programs
    found = Kernels(*pairs(plan.evaluation.by_layers.finest, *jax.tree.map(jnp.asarray, (plan.f, plan.g))))
    _assert_close(net, found, own, own, error, "layer by layer the kernels are others")


def check_tiles(net: Network, x: Any, error: float = ERROR) -> None:
    """In tiles of one and of two inputs the matrix is symmetric to the bit and has the same values."""
    own = net.kernel_fn(x)
    for tile in (1, 2):
        tiled = gram(net, x, get=("nngp", "ntk"), tile=tile, progress=False)
        for kernel in tiled:
            np.testing.assert_array_equal(kernel, _turned(kernel), f"in tiles of {tile} it is not symmetric")
        _assert_close(net, tiled, own, own, error, f"in tiles of {tile} the kernels are others")


def check_diagonal(net: Network, x: Any, error: float = ERROR) -> None:
    """``kernel_diagonal`` is the diagonal."""
    own = net.kernel_fn(x)
    for name, kernel in own._asdict().items():
        diagonal = np.asarray(kernel)[np.arange(len(kernel)), np.arange(len(kernel))]
        found = np.asarray(kernel_diagonal(net, x, name))
        bound = _error_of(net, name, error) * np.abs(diagonal).max()
        np.testing.assert_allclose(found, diagonal, rtol=0, atol=bound, err_msg=f"the diagonal of {name}")


def check_invariance(net: Network, x: Any, moved: Callable[[Any], Any], error: float = ERROR) -> None:
    """A motion of either input leaves every kernel as it is, and it does move the signals."""
    y = moved(x)
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)]
    assert not all(same), "moved(x) is x: give a motion that moves these signals"
    own = net.kernel_fn(x)
    _assert_close(net, net.kernel_fn(y, x), own, own, error, "a motion of x1 changes the kernels")
    _assert_close(net, net.kernel_fn(x, y), own, own, error, "a motion of x2 changes the kernels")


def check_single_precision(net: Network, x: Any) -> None:
    """float32 in, float32 out, with its error."""
    own, single = net.kernel_fn(x), net.kernel_fn(_cast(x, np.float32))
    assert all(kernel.dtype == np.float32 for kernel in single), "kernels of float32 signals are not float32"
    _assert_close(net, single, own, own, 1e-4, "in float32 the kernels are others")


def check_derivatives(net: Network, x: Any, step: float = 1e-5) -> None:
    """Under jit, in all signals and all hyperparameters at once: forwards and backwards they agree with differences."""
    tree = (net, x)
    variable, fixed = eqx.partition(tree, lambda a: isinstance(a, float) or eqx.is_inexact_array_like(a))
    variable = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variable)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), variable)

    def value(variable: Any) -> Any:
        network, batch = eqx.combine(variable, fixed)
        kernels = network.kernel_fn(batch[:1], batch[1:])
        return sum(jnp.sum(jnp.sin(1 + jnp.arange(k.size)).reshape(k.shape) * k) for k in kernels)

    @jax.jit
    def everything(variable: Any) -> Any:
        return *jax.jvp(value, (variable,), (direction,)), jax.grad(value)(variable)

    _, forwards, gradient = everything(variable)
    terms = [(np.vdot(g, d), np.abs(g * d).sum()) for g, d in
             zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)]  # fmt: skip
    backwards, size = (sum(term[k] for term in terms) for k in (0, 1))
    moved = [jax.tree.map(lambda a, d, by=by: a + by * d, variable, direction) for by in (step, -step)]
    ahead, behind = (everything(point)[0] for point in moved)
    np.testing.assert_allclose(forwards, backwards, rtol=0, atol=1e-10 * size, err_msg="jvp and grad differ")
    np.testing.assert_allclose(
        forwards,
        (ahead - behind) / (2 * step),
        rtol=0,
        atol=1e-6 * size,
        err_msg="the derivative is not that of the values",
    )


def check_geometry(
    geometry: Geometry, f: Signal, g: Signal, filters: tuple[Any, ...] = (), error: float = ERROR
) -> None:
    """A geometry by itself, without layers: the laws that its methods obey, for one pair of distinct signals.

    The mean is linear and of a constant that constant; a filter is linear and leaves constants and, unless positions are lost at
    a border, the mean as they are; q(f) is the mean square, so that \\|mean K(f, g)\\|² <= q q'; motions carry q' to q'.
    ValueError for signals in single precision, unless ``error`` says so.
    """
    if error < 1e-6:
        _require_double("check_geometry", (f, g))
    f, g = jax.tree.map(jnp.asarray, (f, g))
    field: Field = geometry.correlate(f, g)
    values = geometry.samples(field)
    q1, q2 = geometry.variance(f), geometry.transport(geometry.variance(g))
    largest = np.max(np.abs(values))
    bound = np.sqrt(np.max(q1) * np.max(q2))
    assert largest <= bound * (1 + error), f"a correlation of {largest:.3e} beyond sqrt(q q') = {bound:.3e}"
    mean, close = geometry.mean(field), _closeness(error * bound)
    close(geometry.mean(values), mean, "the mean of the samples is not that of the field")
    close(geometry.mean(geometry.scale(field, 2.5)), 2.5 * mean, "scale")
    close(geometry.mean(geometry.add(field, field)), 2 * mean, "add")
    constant = geometry.shift(geometry.scale(field, 0), bound)
    close(geometry.mean(constant), bound, "the mean of a constant is not that constant")
    for filter in filters:
        averaged, after = geometry.average(field, filter), geometry.after(filter)
        close(after.mean(geometry.average(constant, filter)), bound, f"{filter} of a constant is not that constant")
        close(
            after.mean(geometry.average(geometry.scale(field, 2.5), filter)),
            2.5 * after.mean(averaged),
            f"{filter} is not linear",
        )
        if after is geometry:
            close(after.mean(averaged), mean, f"{filter} changes the mean")


def _closeness(bound: Any) -> Callable[[Any, Any, str], None]:
    def close(found: Any, expected: Any, words: str) -> None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=10 * bound, err_msg=words)

    return close


def _error_of(net: Network, name: str, error: float) -> float:
    """Near coinciding pairs the NTK of a kink goes as the root of the correlation's rounding error."""
    kinked = any(np.isfinite(layer.smoothness) for layer in flatten(net.layers))
    return error**0.5 if kinked and name == "ntk" else error


def _assert_close(net: Network, found: Kernels, expected: Kernels, own: Kernels, error: float, words: str) -> None:
    """To the error, relative to sqrt(K(x, x) K(x', x')); off the diagonal kinks cost nothing, if signals are distinct."""
    for name, kernel in expected._asdict().items():
        diagonal = np.abs(np.asarray(getattr(own, name))).reshape(*kernel.shape[:2], -1).max(axis=-1).diagonal()
        norm = np.sqrt(np.outer(diagonal, diagonal))
        difference = np.abs(np.asarray(getattr(found, name), np.float64) - np.asarray(kernel, np.float64))
        relative = difference.reshape(*kernel.shape[:2], -1).max(axis=-1) / norm
        off = ~np.eye(len(relative), dtype=bool)
        for part, bound in ((relative[off], error), (relative[~off], _error_of(net, name, error))):
            assert part.max() <= bound, f"{words}: {name} by {part.max():.1e}, more than {bound:.0e}"


def _turned(kernel: Any) -> np.ndarray:
    kernel = np.asarray(kernel)
    return kernel.transpose(1, 0, *reversed(range(2, kernel.ndim)))


def _matrix(kernel: Float[np.ndarray, "n n ..."]) -> Float[np.ndarray, "d d"]:
    if kernel.ndim == 2:
        return kernel
    n, side = len(kernel), kernel.shape[-1]
    return kernel.transpose(0, 2, 1, 3).reshape(n * side, n * side)


def _cast(x: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: jnp.asarray(a, dtype) if eqx.is_inexact_array_like(a) else a, x)
