r"""Which hyperparameters matter: how leave-one-out error and marginal likelihood change with each of them.

For each hyperparameter h of a network, entry by entry, and the ridge,

.. math:: s_\mathrm{loo} = \frac{\partial \ln E}{\partial \ln h}, \qquad
          s_p = \frac{\partial \ln p(y)}{\partial \ln h},

E the root mean square leave-one-out error and p the marginal likelihood at its likeliest scale (``hyperparameters``). An s_loo
of 0.5 says that one per cent more of h is half a per cent more error; where h is zero both are the derivatives in h itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from so3ntk.basics.arguments import check_flag
from so3ntk.basics.arrays import ArrayLike
from so3ntk.basics.plots import require_matplotlib
from so3ntk.engine.layers.base import Layer
from so3ntk.engine.network import Network, check_kernel_name
from so3ntk.errors import PrecisionError
from so3ntk.learning.hyperparameters import leave_one_out_loss, marginal_likelihood_loss
from so3ntk.learning.predict.inputs import number, targets
from so3ntk.spectra.depth_tables import aligned


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What ``sensitivity`` finds, ranked by the size of ``error_slopes``; ``str`` of it is a table.

    names: as "layers[0].W_std (Lift)", with an index for entries of arrays. values: the hyperparameters. error_slopes,
    likelihood_slopes: s_loo and s_p. error: the root mean square leave-one-out error. log_likelihood: ln p(y).
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, " h"]
    error_slopes: Float[np.ndarray, " h"]
    likelihood_slopes: Float[np.ndarray, " h"]
    error: float
    log_likelihood: float

    def by_likelihood(self) -> Sensitivity:
        """The same, ranked by the size of ``likelihood_slopes``."""
        return self._taken(np.argsort(-np.abs(self.likelihood_slopes), kind="stable"))

    def _taken(self, order: np.ndarray) -> Sensitivity:
        values, errors, likelihoods = (
            column[order] for column in (self.values, self.error_slopes, self.likelihood_slopes)
        )
        return Sensitivity(
            tuple(self.names[i] for i in order), values, errors, likelihoods, self.error, self.log_likelihood
        )

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("hyperparameter", "value", "d ln error / d ln", "d ln p / d ln")]
        for row in zip(self.names, self.values, self.error_slopes, self.likelihood_slopes, strict=True):
            rows.append((row[0], f"{row[1]:.4g}", f"{row[2]:+.4f}", f"{row[3]:+.4f}"))
        head = f"leave-one-out error {self.error:.4g}, log marginal likelihood {self.log_likelihood:.5g}"
        return "\n".join([head, *aligned(rows)])

    __repr__ = __str__

    def plot(self, path: str | PathLike, title: str | None = None, most: int = 20) -> Path:
        """Both slopes as bars, the ``most`` that matter most; written as a PNG."""
        plt = require_matplotlib("Sensitivity.plot")
        count = min(most, len(self.names))
        figure, panels = plt.subplots(1, 2, sharey=True, figsize=(9, 1.2 + 0.3 * count), constrained_layout=True)
        places = np.arange(count)[::-1]
        columns = (
            (self.error_slopes, -1, "of the leave-one-out error"),
            (self.likelihood_slopes, 1, "of the marginal likelihood"),
        )
        for axes, (slopes, good, label) in zip(panels, columns, strict=True):
            better = good * slopes[:count] > 0
            axes.barh(places, slopes[:count], color=np.where(better, "C0", "C3"))
            axes.axvline(0, color="k", lw=0.8)
            axes.set(xlabel=f"logarithmic slope {label}")
            axes.grid(True, axis="x", alpha=0.3)
        panels[0].set_yticks(places, self.names[:count], fontsize=8)
        figure.suptitle(title or "Hyperparameters: more of it is better (blue) or worse (red)", fontsize=10)
        path = Path(path)
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return path


def sensitivity(
    net: Network, x: Any, y: ArrayLike, ridge: float, *, kernel: str = "ntk", intercept: bool = True
) -> Sensitivity:
    """The logarithmic derivatives of leave-one-out error and marginal likelihood in every hyperparameter of a network.

    x, y: inputs and targets (n,) or (n, k). ridge: > 0, absolute, itself among the hyperparameters. kernel: "ntk" or "nngp".
    intercept: as of the regression. Biases that are None are no hyperparameters: a bias of zero is one,
    but kernels hold its square, so that its slope is zero.

    Derivatives are those of the layers, in reverse mode over all pairs: some thirty times the cost of the Gram matrix, so take some
    hundred inputs. Raises TypeError and ValueError for wrong arguments, PrecisionError where K + ridge I is not positive definite.
    """
    where = "sensitivity"
    if not isinstance(net, Network):
        raise TypeError(f"{where}: expected a Network, as serial(...) makes it, got {net!r}.")
    check_kernel_name(kernel, where)
    check_flag(intercept, where, "intercept")
    ridge = number(ridge, where, "ridge", positive=True)
    if len(x) < 3:
        raise ValueError(f"{where}: expected at least three inputs, of which one can be left out, got {len(x)}.")
    values = targets(y, len(x), where)
    if intercept and np.all(values == values[:1]):
        raise ValueError(
            f"{where}: the targets are constant, which the intercept alone explains: nothing depends on the kernel."
        )
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    leaves, structure = jax.tree.flatten(net)
    start = [jnp.asarray(leaf, dtype) for leaf in leaves]

    @eqx.filter_jit
    def both(leaves: list[Array], noise: Array, values: Array) -> tuple[Array, Any]:
        def losses(leaves: list[Array], noise: Array) -> Array:
            gram = jnp.asarray(jax.tree.unflatten(structure, leaves).kernel_fn(x, None, kernel), dtype)
            error = leave_one_out_loss(gram, values, noise, intercept)
            return jnp.stack([0.5 * jnp.log(error), -marginal_likelihood_loss(gram, values, noise, intercept)])

        found, pull = jax.vjp(losses, leaves, noise)
        return found, [pull(jnp.eye(2, dtype=dtype)[i]) for i in range(2)]

    found, slopes = both(start, jnp.asarray(ridge, dtype), jnp.asarray(values, dtype))
    numbers, *columns = (
        np.concatenate([*map(np.ravel, of_leaves), [of_ridge]]) for of_leaves, of_ridge in [(start, ridge), *slopes]
    )
    if not (np.isfinite(found).all() and np.isfinite(columns).all()):
        raise PrecisionError(
            f"{where}: the losses or their derivatives are not finite: K + ridge I is not positive definite to this precision. "
            "Raise ridge, use double precision (jax_enable_x64), or refine the quadrature."
        )
    scale = np.where(numbers == 0, 1, numbers).astype(np.float64)
    error_slopes, likelihood_slopes = (np.asarray(column, np.float64) * scale for column in columns)
    ranked = np.argsort(-np.abs(error_slopes), kind="stable")
    whole = Sensitivity(
        (*_names(net), "ridge"),
        numbers.astype(np.float64),
        error_slopes,
        likelihood_slopes,
        float(np.exp(found[0])),
        float(found[1]),
    )
    return whole._taken(ranked)


def _names(net: Network) -> list[str]:
    """Of every entry of every leaf: its place in the network, and the layer's name."""
    names = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(net)[0]:
        place = jax.tree_util.keystr(path).removeprefix(".")
        owner = _owner(net, path)
        size = np.size(leaf)
        entries = [""] if np.ndim(leaf) == 0 else [f"[{i}]" for i in range(size)]
        names += [f"{place}{entry} ({owner})" for entry in entries]
    return names


def _owner(net: Network, path: tuple) -> str:
    """The name of the innermost layer on the way to a leaf."""
    at: Any = net
    name = ""
    for key in path:
        at = getattr(at, key.name) if hasattr(key, "name") else at[key.idx]  # pyright: ignore[reportIndexIssue]
        name = type(at).__name__ if isinstance(at, Layer) else name
    return name
