r"""Kernels of networks in scikit-learn's Gaussian processes.

    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import WhiteKernel
    from so3ntk.interop.scikit_learn import NetworkKernel, rows

    model = GaussianProcessRegressor(NetworkKernel(net) + WhiteKernel(0.1)).fit(rows(x), y)

scikit-learn's estimators check that inputs are numbers in one or two dimensions. A table (n, d) they take as it is; anything
else, as images and ``SphereSignal``, passes as ``rows``: an array (n,) of objects, each of which stands for one input.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.gaussian_process.kernels import GenericKernelMixin, Hyperparameter, Kernel

from so3ntk.basics.double import double_precision
from so3ntk.engine.network import Network
from so3ntk.interop.leaves import checked_network, hyperparameters, replaced
from so3ntk.learning.inducing.parts import in_double
from so3ntk.matrices.diagonal import kernel_diagonal
from so3ntk.matrices.gram import precise_gram
from so3ntk.sphere.calibration import QuadratureWarning

#: Between what hyperparameters are fitted: those of scikit-learn's own kernels.
LIMITS = (1e-5, 1e5)


class NetworkKernel(GenericKernelMixin, Kernel):
    r"""The NTK or NNGP of a network as a kernel of ``GaussianProcessRegressor`` and ``GaussianProcessClassifier``.

    .. math:: k(x, x') = K(x, x'; \theta), \qquad \theta = \log |h|, \qquad
              \partial k / \partial\theta = h\; \partial K / \partial h

    with h the hyperparameters of the network, by names such as ``layers_0_W_std``; those that are zero somewhere are
    constants. It multiplies and adds up with scikit-learn's kernels.

    net: a ``Network``; None for ``default_network`` on tables (n, d). kernel: "ntk" or "nngp".
    limits: the pair between which |h| is fitted, or "fixed" for not at all; a dict of these by name, with ``LIMITS`` for
    those that it does not hold. W_std of a last ``Dense`` is an amplitude, so beside it a ``ConstantKernel`` is redundant.
    memory: as for ``gram``.

    Called with batches X (n) and Y (m) that the network reads, or their ``rows``. Kernels are computed in double precision
    whatever JAX is set to; gradients in forward mode, one hyperparameter after the other, with all pairs at once, which costs
    many times the kernel itself: fit them on some hundred inputs. Raises TypeError and ValueError when first used for
    what is no network, and for names in ``limits`` that it does not have.
    """

    def __init__(
        self,
        net: Network | None = None,
        kernel: str = "ntk",
        limits: tuple[float, float] | str | Mapping[str, Any] = LIMITS,
        memory: str | int = "2GiB",
    ):
        self.net = net
        self.kernel = kernel
        self.limits = limits
        self.memory = memory

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """Those of the network, with their limits."""
        known = hyperparameters(self._network)
        limits = self.limits if isinstance(self.limits, Mapping) else dict.fromkeys(known, self.limits)
        unknown = [name for name in limits if name not in known]
        if unknown:
            raise ValueError(f"NetworkKernel: limits: expected names among {', '.join(known)}; got {unknown[0]!r}.")
        return [Hyperparameter(name, "numeric", limits.get(name, LIMITS), np.size(h)) for name, h in known.items()]

    @property
    def theta(self) -> Float[np.ndarray, " d"]:
        """log |h| of those that are not fixed, arrays entry by entry."""
        return np.log(np.abs(np.concatenate([np.zeros(0), *(np.ravel(h) for h in self._free().values())])))

    @theta.setter
    def theta(self, theta: Float[np.ndarray, " d"]) -> None:
        free = self._free()
        if len(theta) != sum(np.size(h) for h in free.values()):
            raise ValueError(f"NetworkKernel: theta: expected numbers for {', '.join(free)}; got {len(theta)}.")
        self.net = replaced(self._network, {k: np.asarray(h) for k, h in _split(np.exp(theta), free).items()})

    def is_stationary(self) -> bool:
        """False: K depends on where both inputs are, not on their difference."""
        return False

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """K (n, m); with ``eval_gradient`` and Y None also its derivatives in ``theta`` (n, n, d)."""
        if not eval_gradient:
            return _by_batches(self._values, X, Y)
        if Y is not None:
            raise ValueError("NetworkKernel: eval_gradient is for the kernel of X with itself; leave Y out.")
        with warnings.catch_warnings():  # of each step of an optimiser: of the kernel alone they are heard
            warnings.simplefilter("ignore", QuadratureWarning)
            return _by_batches(self._values, X, None), _by_batches(self._gradient, X, None)

    def diag(self, X: Any) -> Float[np.ndarray, " n"]:
        """The kernel of each input with itself."""
        found = np.empty(len(X))
        for batch, places in _parts(X):
            with double_precision():
                found[places] = kernel_diagonal(self._network, in_double(self._network, batch), self.kernel)
        return found

    def __repr__(self) -> str:
        known = hyperparameters(self.net) if isinstance(self.net, Network) else {}
        values = (f"{name}={np.round(h, 4)}" for name, h in known.items())
        return f"NetworkKernel({', '.join([repr(self.kernel), *values])})"

    @property
    def _network(self) -> Network:
        return checked_network(self.net, self.kernel, "NetworkKernel")

    def _free(self) -> dict[str, Any]:
        known = hyperparameters(self._network)
        return {h.name: known[h.name] for h in self.hyperparameters if not h.fixed}

    def _values(self, x: Any, y: Any) -> Float[np.ndarray, "n m"]:
        net = self._network
        with double_precision():
            other = None if y is None else in_double(net, y)
            return precise_gram(net, in_double(net, x), other, self.kernel, memory=self.memory)

    def _gradient(self, x: Any, y: Any) -> Float[np.ndarray, "n m d"]:
        net, free = self._network, self._free()
        with double_precision():
            constant = replaced(net, dict.fromkeys(free, 1.0))  # whose values are not compiled into the program
            other = None if y is None else in_double(net, y)
            signed = {name: jnp.asarray(h, jnp.float64) for name, h in free.items()}
            return np.asarray(_slopes(signed, constant, in_double(net, x), other, self.kernel))


def rows(x: Any) -> np.ndarray:
    """A batch as an array (n,) of objects, one for each input, which scikit-learn's estimators and splitters take.

    A row refers to its batch, so that nothing is copied; kernels of rows of one batch are computed together.
    """
    found = np.empty(len(x), object)
    found[:] = [Row(x, index) for index in range(len(x))]
    return found


class Row:
    """One input of a batch."""

    __slots__ = ("batch", "index")

    def __init__(self, batch: Any, index: int):
        self.batch, self.index = batch, index

    def __repr__(self) -> str:
        return f"Row {self.index} of {type(self.batch).__name__}"


def _parts(X: Any) -> list[tuple[Any, np.ndarray]]:
    """What rows stand for, batch by batch, and the places of its inputs in X; anything else is one batch."""
    if not (isinstance(X, np.ndarray) and X.dtype == object and all(isinstance(row, Row) for row in X)):
        return [(X, np.arange(len(X)))]
    given: list[Row] = X.tolist()
    found = []
    for key, batch in {id(row.batch): row.batch for row in given}.items():
        places = np.array([place for place, row in enumerate(given) if id(row.batch) == key])
        indices = np.array([given[place].index for place in places])
        whole = np.array_equal(indices, np.arange(len(batch)))
        found.append((batch if whole else batch[indices], places))
    return found


def _by_batches(function: Callable, X: Any, Y: Any) -> np.ndarray:
    """function(x, y) of all pairs of batches in X and Y as one array; y is None for a batch with itself."""
    rows, blocks = _parts(X), {}
    columns = rows if Y is None else _parts(Y)
    for i, (x, _) in enumerate(rows):
        for j, (y, _) in enumerate(columns):
            if Y is None and j < i:
                blocks[i, j] = np.swapaxes(blocks[j, i], 0, 1)
            else:
                blocks[i, j] = function(x, None if Y is None and i == j else y)
    shape = len(X), len(X if Y is None else Y), *blocks[0, 0].shape[2:]
    found = np.empty(shape)
    for (i, j), block in blocks.items():
        found[np.ix_(rows[i][1], columns[j][1])] = block
    return found


def _split(flat: Any, like: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers (d,) as the hyperparameters ``like``, with the signs of these."""
    ends = np.cumsum([np.size(h) for h in like.values()])
    parts = [flat[end - np.size(h) : end].reshape(np.shape(h)) for end, h in zip(ends, like.values(), strict=True)]
    return {name: part * np.sign(h) for (name, h), part in zip(like.items(), parts, strict=True)}


@eqx.filter_jit
def _slopes(free: dict[str, Array], net: Network, x: Any, y: Any, kernel: str) -> Float[Array, "n m d"]:
    """h dK/dh for each entry of each hyperparameter."""
    flat = jnp.concatenate([jnp.zeros(0), *(jnp.ravel(h) for h in free.values())])

    def value(flat):
        parts = jnp.split(flat, np.cumsum([h.size for h in free.values()])[:-1])
        values = {name: part.reshape(h.shape) for (name, h), part in zip(free.items(), parts, strict=True)}
        return replaced(net, values).kernel_fn(x, y, kernel)

    slopes = jax.lax.map(lambda tangent: jax.jvp(value, (flat,), (tangent,))[1], jnp.diag(flat))
    return jnp.moveaxis(slopes, 0, -1)
