r"""Sums over the rotations of a grid of a function of S, its gradient and its Hessian, by sign classes.

With c_r = sum_p T_pr S_p on the rotations r = g q h, q a representative and (g, h) in D2 x D2 (``so3ntk.sphere.haar``), each T_p
belongs to one of 16 classes, T_p(g q h) = chi(g, h) T_p(q), and the signs chi of the classes are the Hadamard matrix.
Hence c at the 16 images of the representatives is the Hadamard transform of the classes' products there; a sum against T_p
needs the transform of the summand, and a sum against T_p T_q the same: the product of two classes is a class. Each costs a
sixteenth of the dense product. Classes are padded to one length, so that each step is one batched matrix product.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from so3ntk.basics.arrays import on_device
from so3ntk.sphere.haar import columns_by_class
from so3ntk.sphere.transforms.dense import DenseTransform
from so3ntk.sphere.transforms.grid import Grid
from so3ntk.sphere.transforms.images import HIGHEST


class ClassTables(eqx.Module):
    """Tables of a grid for k classes (16 or 1), P entries p (in the order (l, m, n)) and q representatives.

    signs (k, k); table (k, s, q): T_p of each class; weights w (q,); pairs (k, q, t): w T_p T_q for all p <= q whose product is in the class. Padding is zero. The places say where the
    padded entries belong: members (k, s) to P (the last, P, for padding), own (P,) back; pair_own (P, P) into (k, t).
    """

    signs: Float[Array, "k k"]
    table: Float[Array, "k s q"]
    weights: Float[Array, " q"]
    pairs: Float[Array, "k q t"]
    members: Array
    own: Array
    pair_own: Array
    bandlimit: int = eqx.field(static=True)

    @classmethod
    def of(cls, grid: Grid) -> ClassTables:
        """The tables of a grid, in its dtype; made on the host."""
        assert isinstance(grid.transform, DenseTransform), "its tables are those of the classes"
        columns = columns_by_class(grid.bandlimit, grid.images)
        tables, weights = [np.asarray(table) for table in grid.transform.tables], np.asarray(grid.weights)
        members, own = _padded(columns)
        rows = np.concatenate([*tables, np.zeros((1, len(weights)), weights.dtype)])
        order = np.append(np.argsort(np.concatenate(columns)), len(rows) - 1)
        by_entry = rows[order]  # T_p in the order (l, m, n), and a row of zeros
        label = np.empty(len(order) - 1, int)
        for number, column in enumerate(columns):
            label[column] = number
        p, q = np.triu_indices(len(label))
        both = label[p] ^ label[q]
        pair_members, pair_own = _padded([np.flatnonzero(both == k) for k in range(len(columns))])
        square = np.zeros((len(label), len(label)), int)
        square[p, q] = square[q, p] = pair_own
        p, q = np.append(p, len(label)), np.append(q, len(label))
        pairs = by_entry[p[pair_members]] * by_entry[q[pair_members]] * weights
        return cls(
            signs=on_device(scipy.linalg.hadamard(len(columns)).astype(weights.dtype)),
            table=on_device(by_entry[members]),
            weights=on_device(weights),
            pairs=on_device(pairs.swapaxes(1, 2)),
            members=on_device(members),
            own=on_device(own),
            pair_own=on_device(square),
            bandlimit=grid.bandlimit,
        )

    def values(self, s: Float[Array, "n p"]) -> Float[Array, "k n q"]:
        """c at all rotations."""
        by_class = jnp.pad(s, ((0, 0), (0, 1)))[:, self.members]  # (n, k, s)
        products = jnp.einsum("nks,ksq->knq", by_class, self.table, precision=HIGHEST)
        return self._transform(products)

    def mean(self, x: Float[Array, "k n q"]) -> Float[Array, " n"]:
        """sum_r w_r x_r."""
        return jnp.dot(x.sum(axis=0), self.weights, precision=HIGHEST)

    def gradient(self, x: Float[Array, "k n q"]) -> Float[Array, "n p"]:
        """sum_r w_r x_r T_pr."""
        sums = jnp.einsum("knq,ksq->nks", self._transform(x) * self.weights, self.table, precision=HIGHEST)
        return sums.reshape(x.shape[1], -1)[:, self.own]

    def hessian(self, x: Float[Array, "k n q"]) -> Float[Array, "n p p"]:
        """sum_r w_r x_r T_pr T_qr."""
        sums = jnp.einsum("knq,kqt->nkt", self._transform(x), self.pairs, precision=HIGHEST)
        return sums.reshape(x.shape[1], -1)[:, self.pair_own]

    def hessian_times(self, x: Float[Array, "k n q"], vectors: Float[Array, "n p y"]) -> Float[Array, "n p y"]:
        """The Hessian times vectors, without forming it: cheaper for a few."""
        one = lambda vector: self.gradient(x * self.values(vector))  # noqa: E731
        return jax.vmap(one, in_axes=2, out_axes=2)(vectors)

    def _transform(self, x: Float[Array, "k n q"]) -> Float[Array, "k n q"]:
        return jnp.einsum("ij,jnq->inq", self.signs, x, precision=HIGHEST)


def _padded(classes: list[np.ndarray] | tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lists that partition 0 .. m - 1 as rows (k, s), padded with m, and the place of each number among k s."""
    count, longest = sum(map(len, classes)), max(map(len, classes))
    rows, own = np.full((len(classes), longest), count), np.empty(count, int)
    for number, entries in enumerate(classes):
        rows[number, : len(entries)] = entries
        own[entries] = number * longest + np.arange(len(entries))
    return rows, own
