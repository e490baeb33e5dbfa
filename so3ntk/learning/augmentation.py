r"""Augmentation: a kernel averaged over a finite group of motions, and data sets of moved copies.

A network trained on all moved copies of its data is, at infinite width, the network whose kernel is

.. math:: \bar\Theta(x, x') = \frac{1}{|G|} \sum_{r \in G} \Theta(x, \rho(r)\, x')

and that is the kernel of the group-convolutional network (fully connected -> global support, CNN -> local support).
The reason: training targets are equal on the copies, and on vectors that are constant along them the |G|n x |G|n
matrix acts as :math:`|G|\, \bar\Theta`. The loss is a mean over |G|n samples, so the factors cancel in the flow:
**both are at the same prediction at the same time t**, at every input, for outputs that start at zero (or at any
invariant function). A ridge added to the matrix does not cancel: |G| times as much is needed on the copies.
Source: Misof, Kessel, Gerken, Equivariant Neural Tangent Kernels (2025).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from scipy.spatial.transform import Rotation

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.engine.layers.base import is_traced
from so3ntk.engine.network import Kernels, check_get
from so3ntk.sphere.rotations import matrices_of
from so3ntk.sphere.signals import SphereSignal, concatenate, rotate

#: Two rotation matrices are the same motion if their entries differ by less.
SAME = 1e-5
#: How far a variance may change under a motion, relative to it, in ``augmented``'s check on its kernel.
INVARIANT = 1e-3


class MotionList(ABC):
    """A list of motions of signals, all of the same weight. One subclass for each way to move signals."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def move(self, x: Any, index: int) -> Any:
        """The batch rho(r) x for one motion r; x itself for the identity."""

    @abstractmethod
    def join(self, parts: Sequence[Any]) -> Any:
        """One batch of several."""

    @abstractmethod
    def products(self, index: int) -> Int[np.ndarray, " n"]:
        """Where in the list the motion ``index`` *after* each motion is; -1 where it is not."""

    @abstractmethod
    def describe(self, index: int) -> str:
        """One motion in words, for errors."""

    def act(self, x: Any) -> Iterator[Any]:
        """The moved batches, in the order of the list."""
        return (self.move(x, index) for index in range(len(self)))


class Rotations(MotionList):
    """Rotations of signals on the sphere: of a ``SphereSignal``, or of molecules' ``Environments`` as a whole."""

    def __init__(self, rotations: Rotation | ArrayLike):
        self.matrices = matrices_of(rotations)

    def __len__(self) -> int:
        return len(self.matrices)

    def move(self, x: Any, index: int) -> Any:
        """[rho(R) f](x) = f(R^-1 x). TypeError for anything without a ``SphereSignal``."""
        leaves = jax.tree.leaves(x, is_leaf=_is_signal)
        if not leaves or not all(_is_signal(leaf) for leaf in leaves):
            raise TypeError(
                f"augmented: rotations act on a SphereSignal or Environments, got {type(x).__name__}. For images use "
                'planar.motions("C4").'
            )
        matrix = self.matrices[index]
        if np.abs(matrix - np.eye(3)).max() < SAME:
            return x  # to the bit: at a kink rounding would move the NTK of a signal with itself by the root of eps
        return jax.tree.map(lambda signal: rotate(signal, matrix), x, is_leaf=_is_signal)

    def join(self, parts: Sequence[Any]) -> Any:
        """By ``concatenate``."""
        return concatenate(parts) if _is_signal(parts[0]) else type(parts[0]).concatenate(parts)

    def products(self, index: int) -> Int[np.ndarray, " n"]:
        """By comparing matrices, to ``SAME``."""
        found = self.matrices[index] @ self.matrices
        nearest = np.argmax(found.reshape(-1, 9) @ self.matrices.reshape(-1, 9).T, axis=1)
        same = np.abs(found - self.matrices[nearest]).max(axis=(1, 2)) < SAME
        return np.where(same, nearest, -1)

    def describe(self, index: int) -> str:
        """Angle and axis."""
        vector = Rotation.from_matrix(self.matrices[index]).as_rotvec()
        angle = np.linalg.norm(vector)
        axis = ", ".join(f"{v:.3g}" for v in vector / angle) if angle > SAME else ""
        return f"the rotation by {np.degrees(angle):.4g} degrees about ({axis})" if axis else "the identity"


#: A list of motions as callers give it.
Motions = MotionList | Rotation | np.ndarray | jax.Array


def as_motions(motions: Motions, where: str) -> MotionList:
    """A ``MotionList`` as it is; a scipy ``Rotation`` or an array (n, 3, 3) as ``Rotations``. ValueError if empty."""
    if isinstance(motions, Rotation | np.ndarray | jax.Array):
        motions = Rotations(motions)
    if not isinstance(motions, MotionList):
        raise TypeError(
            f"{where}: expected a scipy Rotation, an array of matrices (n, 3, 3) or a MotionList such as "
            f'planar.motions("C4"), got {type(motions).__name__}. The mean over all of SO(3) is the kernel of Lift(), '
            "..., GroupPool()."
        )
    if len(motions) == 0:
        raise ValueError(f"{where}: expected at least one motion, got none.")
    return motions


def inverses(motions: MotionList, where: str) -> tuple[list[int], int]:
    """For each motion the place of its inverse, and the place of the identity. ValueError unless they are a group."""
    identity, rows = -1, np.arange(len(motions))
    for i in range(len(motions)):
        products = motions.products(i)
        _check_row(motions, i, products, where)
        if np.array_equal(products, rows):
            identity = i
    # Closed and without repetition: every row is a permutation, so the identity and the inverses are there.
    return [int(np.argmax(motions.products(i) == identity)) for i in range(len(motions))], identity


def _check_row(motions: MotionList, i: int, products: Int[np.ndarray, " n"], where: str) -> None:
    """ValueError if a product of motion i is missing, or two of them are equal."""
    missing = np.flatnonzero(products < 0)
    if len(missing):
        j = int(missing[0])
        raise ValueError(
            f"{where}: the {len(motions)} motions are not a group: {motions.describe(i)} (motion {i}) after "
            f"{motions.describe(j)} (motion {j}) is not among them. The mean over such a list is not symmetric, and not "
            "the kernel of a network trained with that augmentation. Complete the group, or train on "
            "augment_dataset(x, y, motions), which takes any list."
        )
    first, counts = np.unique(products, return_counts=True)
    if len(first) < len(products):
        repeated = int(first[np.argmax(counts)])
        raise ValueError(
            f"{where}: a group has each motion once, but {motions.describe(repeated)} is there repeatedly."
        )


def augmented(kernel_fn: Callable, subgroup: Motions) -> Callable:
    r"""The kernel function of a network trained on all moved copies of its data.

    .. math:: \bar K(x, x') = \frac{1}{|G|} \sum_{r \in G} K(x, \rho(r)\, x')

    kernel_fn: any kernel function with arguments (x1, x2, get), such as ``net.kernel_fn``, that has no preferred
    direction: K(rho(r) x, rho(r) x') = K(x, x'). subgroup: a finite group, as a scipy ``Rotation`` or matrices
    (n, 3, 3) for signals on the sphere and molecules; for images ``planar.motions``.

    Returns a function (x1, x2=None, get=("nngp", "ntk")) with the values of ``net.kernel_fn``: an array (N1, N2), or
    ``Kernels`` of them; works under jit and grad where kernel_fn does (jit unrolls the motions: compilation takes about
    a tenth of a second for each). With x2 None the result is symmetric to the bit, and of a motion and its inverse,
    whose matrices are each other's transposes, one is computed. For large matrices average
    ``functools.partial(so3ntk.gram, net)``: a kernel function too.

    Raises ValueError for motions that are not a group, naming the product that is missing; when called, for a kernel
    that changes under the motions (judged by the variance of the first signal under eight of them, where the values
    are concrete) and one that is not a number per pair.
    """
    group = as_motions(subgroup, "augmented")
    inverse, identity = inverses(group, "augmented")

    def mean_kernel_fn(x1: Any, x2: Any = None, get: str | Sequence[str] = ("nngp", "ntk")) -> Any:
        names = check_get(get)
        asked = get if isinstance(get, str) else names
        _check_invariance(kernel_fn, group, x1, asked)
        total: Any = None
        for index in range(len(group)):
            weight = 1 if x2 is not None or inverse[index] == index else 2 * (index < inverse[index])
            if weight == 0:
                continue
            other = x2 if index == identity else group.move(x1 if x2 is None else x2, index)
            term = [weight * kernel for kernel in _kernels(kernel_fn(x1, other, asked), asked)]
            total = term if total is None else [a + b for a, b in zip(total, term, strict=True)]
        if x2 is None:
            total = [(kernel + kernel.T) / 2 for kernel in total]
        found = {name: kernel / len(group) for name, kernel in zip(names, total, strict=True)}
        return found[get] if isinstance(get, str) else Kernels(found.get("nngp"), found.get("ntk"))

    return mean_kernel_fn


def augment_dataset(x: Any, y: ArrayLike, motions: Motions) -> tuple[Any, Any]:
    """All moved copies of a batch in one, and the targets repeated for each copy.

    The order is motion-major: copy i of signal j is at i * n + j; with the identity first, the first n are x. motions:
    *any* list, as a scipy ``Rotation`` or matrices (n, 3, 3) for a ``SphereSignal`` or ``Environments``, and as
    ``planar.motions`` or ``planar.ImageMotions`` for images. y (n, ...): targets that do not change under the motions.

    Training on the result reaches at time t what training on (x, y) with ``augmented(kernel_fn, motions)`` reaches at t,
    if the motions are a group; t is that of ``predict.gradient_flow``, for a loss that is a mean over samples. An
    absolute ridge must be multiplied by the number of motions, and diag_reg by that and the ratio of the mean diagonals
    of the averaged and of the plain kernel. Raises ValueError if x and y differ in length.
    """
    found = as_motions(motions, "augment_dataset")
    refuse_masked(y, "augment_dataset: the targets y")
    y = y if isinstance(y, jax.Array) else np.asarray(y)
    if y.ndim == 0 or len(y) != len(x):
        raise ValueError(f"augment_dataset: expected a target for each of the {len(x)} signals, got shape {y.shape}.")
    repeated = (jnp if isinstance(y, jax.Array) else np).concatenate([y] * len(found))
    return found.join(list(found.act(x))), repeated


def _is_signal(x: object) -> bool:
    return isinstance(x, SphereSignal)


def _kernels(result: Any, get: str | tuple[str, ...]) -> list[Any]:
    """The matrices of a kernel function's result, in the order of the names."""
    found = [result] if isinstance(get, str) else [getattr(result, name, None) for name in get]
    for kernel in found:
        if getattr(kernel, "ndim", None) != 2:
            raise ValueError(
                "augmented: expected kernel_fn to return one number per pair, arrays (N1, N2), or Kernels of them, got "
                f"{type(result).__name__}. A network that ends before pooling needs GroupPool() first."
            )
    return found


def _check_invariance(kernel_fn: Callable, group: MotionList, x: Any, get: str | tuple[str, ...]) -> None:
    """ValueError if the variance of the first signal changes under the motions; traced values are not checked."""
    if is_traced((x, jnp.zeros(()))) or len(x) == 0:
        return
    one = x[:1]
    chosen = np.unique(np.linspace(0, len(group) - 1, 8).astype(int))
    moved = [one, *(group.move(one, int(index)) for index in chosen)]
    values = [_kernels(kernel_fn(signal, None, get), get)[0] for signal in moved]
    if is_traced(values):
        return
    plain, *others = (float(value[0, 0]) for value in values)
    changes = [abs(other - plain) for other in others]
    worst = int(np.argmax(changes))
    if changes[worst] > INVARIANT * abs(plain):
        raise ValueError(
            f"augmented: the mean needs a kernel without preferred direction, but K(x, x) is {plain:.6g} for the first "
            f"signal and {others[worst]:.6g} after {group.describe(int(chosen[worst]))}. Likely causes: shifts of "
            'images by a network with padding "SAME" or "VALID" (use "CIRCULAR", or motions without shifts), or a kernel '
            "that was averaged over another group before."
        )
