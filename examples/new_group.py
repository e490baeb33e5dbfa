r"""A new group in one file: rotations and reflections of the circle, O(2) acting on signals on S^1.

A signal is n samples on the circle with C channels; a batch is an array (N, n, C). The rotations by multiples of 2 pi / n
and the reflections map samples to samples, so that the 2n motions are a group (D_n) and the kernels are exact. They
converge to those of O(2) as a band-limited signal is sampled more finely. With r = (e, k), k steps after e reflections,

.. math:: [\rho(r) f'](x) = f'(r^{-1} x) = f'((-1)^e (x - k)), \qquad
          K_r = \frac1{nC} \sum_{c,x} f_c(x)\, f'_c((-1)^e (x - k)),

a cyclic correlation: by FFT. Run the file for a check and a small regression; docs/new-group.md walks through it.
"""

from __future__ import annotations

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import so3ntk
from so3ntk.cli.results import not_negative, output_folder, positive, read_options, settings, write_json
from so3ntk.engine.evaluation.collapsed import Collapsed
from so3ntk.engine.evaluation.evaluation import Evaluation, Whole
from so3ntk.engine.filters import Cap, Everywhere, Filter, within
from so3ntk.engine.geometry import Geometry, PositionFree
from so3ntk.engine.layers.base import Layer, Scalar
from so3ntk.engine.layers.source import Lifting
from so3ntk.engine.parametrization import check_parametrization
from so3ntk.engine.quadrature import Quadrature
from so3ntk.engine.space import Space

# --- the group


class Angles(eqx.Module, Quadrature):
    """Rotations by multiples of 2 pi / count, and reflections: a quadrature of O(2), exact below that frequency.

    count: a multiple of the signals' samples. With as many as there are samples the motions are those of D_n.
    """

    count: int = eqx.field(static=True)


class CircleGeometry(PositionFree):
    """All motions of the circle at once, for filters of global support: fields (2, k) of the reflection and the angle."""

    angles: Angles

    def correlate(self, f: Float[Array, "n c"], g: Float[Array, "n c"]) -> Float[Array, "2 k"]:
        """mean_c,x f(x) g(r^-1 x): the spectrum of a reflected real signal is the conjugate one, more zeros more angles."""
        a, b = (jnp.fft.rfft(signal, axis=0) for signal in (f, g))
        products = jnp.stack([jnp.mean(a * jnp.conj(b), axis=-1), jnp.mean(a * b, axis=-1)])
        if self.angles.count > len(f) and len(f) % 2 == 0:  # the highest frequency is no longer its own mirror image
            products = products.at[:, -1].multiply(0.5)
        return jnp.fft.irfft(products, n=self.angles.count, axis=1) * (self.angles.count / len(f) ** 2)

    def variance(self, f: Float[Array, "n c"]) -> Float[Array, ""]:
        """The mean square: with global support it is the same at every position."""
        return jnp.mean(f * f)

    def mean(self, field: Float[Array, "2 k"]) -> Float[Array, ""]:
        """The mean over the motions, all of equal weight."""
        return jnp.mean(field)


class ArcGeometry(Geometry):
    """The same for filters on arcs: fields (2, n, n) of the reflection, the step and the position."""

    def correlate(self, f: Float[Array, "n c"], g: Float[Array, "n c"]) -> Float[Array, "2 n n"]:
        """mean_c f(x) g(r^-1 x)."""
        return jnp.mean(f * self._carried(g), axis=-1)

    def variance(self, f: Float[Array, "n c"]) -> Float[Array, " n"]:
        """The mean square at each position."""
        return jnp.mean(f * f, axis=-1)

    def transport(self, variance: Float[Array, " n"]) -> Float[Array, "2 n n"]:
        """q(r^-1 x)."""
        return self._carried(variance)

    def mean(self, field: Float[Array, "2 n n"]) -> Float[Array, ""]:
        """The mean over motions and positions."""
        return jnp.mean(field)

    def average(self, field: Float[Array, "... n"], filter: Filter) -> Float[Array, "... n"]:
        """The mean over the arc about each position."""
        n = field.shape[-1]
        if isinstance(filter, Everywhere):
            return jnp.broadcast_to(jnp.mean(field, axis=-1, keepdims=True), field.shape)
        if not isinstance(filter, Cap):
            return super().average(field, filter)
        reach = int(filter.angle * n / (2 * np.pi) + 1e-9)
        steps = range(-reach, min(reach, n - 1 - reach) + 1)
        return sum(jnp.roll(field, step, axis=-1) for step in steps) / len(steps)

    def average_variance(self, variance: Float[Array, " n"], filter: Filter) -> Float[Array, " n"]:
        """The same."""
        return self.average(variance, filter)

    def _carried(self, values: Float[Array, "n ..."]) -> Float[Array, "2 n n ..."]:
        """Values at r^-1 x = (-1)^e (x - k)."""
        n = len(values)
        sign, k, x = np.ogrid[0:2, :n, :n]
        return values[(1 - 2 * sign) * (x - k) % n]


class Circle(Space):
    """What the engine asks of the group: its motions, and how many numbers it holds for a pair."""

    name = "the circle"

    def check_quadrature(self, quadrature: Any) -> None:
        """Angles, or None for those of the samples."""
        if quadrature is not None and not isinstance(quadrature, Angles):
            raise TypeError(f"serial: expected quadrature to be Angles(count) or None, got {quadrature!r}.")

    def sampling(self, signals: Any, quadrature: Angles | None, rtol: float) -> Angles:
        """Those asked for, else as many angles as samples."""
        count = np.shape(signals)[1]
        if quadrature is not None and (quadrature.count < count or quadrature.count % count):
            raise ValueError(f"serial: expected Angles of a multiple of the {count} samples, got {quadrature.count}.")
        return quadrature or Angles(count)

    def evaluation(
        self, sampling: Angles, signals: Any, arrays: Any, dtype: Any, nodes: Any = None, pairs: int = 0
    ) -> Evaluation:
        """Every layer on the whole field, or all of them as one function of the correlation."""
        return Whole(self.layers, sampling) if nodes is None else Collapsed(self.layers, sampling, nodes)

    def numbers(self, arrays: Float[Array | np.ndarray, "N n c"], evaluation: Evaluation) -> int:
        """Of a field, by which the engine fits its tiles to memory and cache."""
        local = any(isinstance(lift, CircleLift) and lift.support is not None for lift in self.inside)
        return 2 * (arrays.shape[1] ** 2 if local else evaluation.motions.count)


class CircleLift(Lifting):
    """The first group convolution, from arrays (N, n, C) to features on the motions of the circle.

    support: None, or the angle in radians that filters see to either side. W_std, b_std, width, parametrization: as for
    ``so3ntk.Lift``. Integer samples become floats. Raises ValueError for arrays of another rank or with an empty axis,
    TypeError for complex ones.
    """

    support: float | None = eqx.field(static=True, default=None)
    W_std: Scalar = 1.0
    b_std: Scalar | None = None
    width: int | None = eqx.field(static=True, default=None)
    parametrization: str = eqx.field(static=True, default="ntk")

    def __check_init__(self):
        check_parametrization("CircleLift", self.parametrization, self.width)

    def arrays(self, x: Any) -> Float[Array, "N n c"]:
        """The batch, checked."""
        signals = jnp.asarray(x)
        if signals.ndim != 3 or 0 in signals.shape[1:]:
            hint = " For one channel add the axis: signals[..., None]." if signals.ndim == 2 else ""
            raise ValueError(f"CircleLift: expected signals (N, n, C), got an array of shape {signals.shape}.{hint}")
        if jnp.iscomplexobj(signals):
            raise TypeError("CircleLift: expected real signals, got complex ones; give the parts as two channels.")
        return signals if jnp.issubdtype(signals.dtype, jnp.floating) else signals.astype(float)

    @property
    def filter(self) -> Filter:
        """An arc, or the whole circle."""
        return within(self.support)

    def geometry(self, grid: Any) -> Geometry:
        """The circle at the angles that ``Circle.sampling`` chose; arcs have those of the samples."""
        return CircleGeometry(grid) if self.support is None else ArcGeometry()

    def channels(self, f: Float[Array, "n c"]) -> int:
        """The last axis."""
        return f.shape[-1]

    def space(self, layers: tuple[Layer, ...]) -> Circle:
        """The circle."""
        return Circle(layers)


# --- what it is good for


def moved(signals: Float[np.ndarray, "N n c"]) -> Float[np.ndarray, "m N n c"]:
    """The batch under each of the 2n motions, written out: slow, and independent of the geometry."""
    steps = np.arange(signals.shape[1])
    return np.stack([signals[:, (sign * (steps - k)) % len(steps)] for sign in (1, -1) for k in steps])


def invariant_network() -> so3ntk.Network:
    """Two group convolutions, averaged over the group."""
    return so3ntk.serial(CircleLift(b_std=0.3), so3ntk.Relu(), so3ntk.GroupConv(b_std=0.3), so3ntk.Relu(),
                         so3ntk.GroupPool(), so3ntk.Dense())  # fmt: skip


def plain_network() -> so3ntk.Network:
    """The same network without the group: fully connected, on rows of n C numbers."""
    return so3ntk.serial(so3ntk.Flatten(), so3ntk.Dense(b_std=0.3), so3ntk.Relu(), so3ntk.Dense(b_std=0.3),
                         so3ntk.Relu(), so3ntk.Dense())  # fmt: skip


def rows(signals: Float[np.ndarray, "... n c"]) -> Float[np.ndarray, "... d"]:
    """Samples and channels in one axis."""
    return signals.reshape(*signals.shape[:-2], -1)


def two_hits(count: int, n: int, seed: int) -> tuple[Float[np.ndarray, "N n c"], Float[np.ndarray, " N"]]:
    """A ring of n detectors that sees two flashes, one of half the brightness; and the angle between them, 0 to pi."""
    rng = np.random.default_rng(seed)
    first, between, side = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, np.pi, count), rng.choice([-1, 1], count)
    angles = 2 * np.pi * np.arange(n) / n
    flashes = [np.exp(8 * (np.cos(angles - place[:, None]) - 1)) for place in (first, first + side * between)]
    return (flashes[0] + flashes[1] / 2)[..., None], between


def compare_with_explicit_mean(n: int = 12) -> dict[str, float]:
    """The largest relative difference between the kernels and the mean of the plain ones over all motions of x2."""
    x1, x2 = np.random.default_rng(0).normal(size=(2, 5, n, 2))
    kernels = invariant_network().kernel_fn(x1, x2)
    copies = moved(x2)
    each = plain_network().kernel_fn(rows(x1), rows(np.concatenate(copies)))
    means = {name: np.reshape(getattr(each, name), (5, len(copies), 5)).mean(axis=1) for name in ("nngp", "ntk")}
    return {name: float(np.abs(getattr(kernels, name) / mean - 1).max()) for name, mean in means.items()}


def regression_errors(train: int, n: int = 24, test: int = 200, seed: int = 0) -> dict[str, float]:
    """The mean absolute test errors, in degrees, of the angle between two hits, for both kernels."""
    (x, y), (x_test, y_test) = two_hits(train, n, seed), two_hits(test, n, seed + 1)
    errors = {}
    for name, net, read in (("invariant", invariant_network(), np.asarray), ("plain", plain_network(), rows)):
        model = so3ntk.KernelRegressor(net).fit(read(x), y)
        errors[name] = float(np.degrees(np.abs(model.predict(read(x_test)) - y_test).mean()))
    return errors


def read_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sizes", type=positive, nargs="+", default=[25, 50, 100], help="training signals (25 50 100)")
    add("--test", type=positive, default=200, help="test signals (200)")
    add("--seed", type=not_negative, default=0, help="of the signals (0)")
    add("--out", default="so3ntk-results/new_group", help="folder of the results")
    return read_options(parser, {"sizes": [25, 50], "test": 50})


def main() -> None:
    """Print both."""
    args = read_arguments()
    jax.config.update("jax_enable_x64", True)
    differences = compare_with_explicit_mean()
    print("largest relative difference from the mean over all rotations and reflections of the plain kernel:")
    print("  " + ", ".join(f"{name} {value:.0e}" for name, value in differences.items()))
    print("the angle between two flashes on a ring of detectors, mean absolute error [degrees]:")
    print(f"  {'training signals':>16} {'plain':>10} {'invariant':>10}")
    results = {}
    for train in args.sizes:
        errors = results[str(train)] = regression_errors(train, test=args.test, seed=args.seed)
        print(f"  {train:>16} {errors['plain']:>10.1f} {errors['invariant']:>10.1f}")
    found = {"settings": settings(args), "differences": differences, "errors": results}
    print(write_json(output_folder(args.out) / "new_group.json", found))


if __name__ == "__main__":
    main()
