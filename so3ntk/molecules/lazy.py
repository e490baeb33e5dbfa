"""Environments that are computed when they are asked for: for more molecules than their environments have room in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from so3ntk.molecules.environments import Environments, environments

#: Molecules whose environments are computed at a time.
BLOCK = 256

if TYPE_CHECKING:
    from ase import Atoms


class LazyEnvironments:
    """Molecules as a batch for ``InducingRegressor``: ``x[index]`` computes ``environments`` of some of them, and keeps none.

    atoms: a sequence of ase.Atoms; settings: the other arguments of ``environments``, of which ``species`` must be the same
    for all molecules. Indices are slices, arrays of integers and masks; length and shape are those of the molecules.

    Raises TypeError for what is no sequence and for settings that ``environments`` does not know, ValueError for no molecules; what
    is wrong with a molecule is said when its environments are computed, of ``BLOCK`` molecules at a time, which are counted from 0.
    """

    #: How a list X of batches becomes one, for messages.
    joined: ClassVar[str] = "LazyEnvironments([*first.atoms, *second.atoms], **settings)"

    def __init__(self, atoms: Sequence[Atoms], **settings: Any):
        if not (hasattr(atoms, "__len__") and hasattr(atoms, "__getitem__")) or hasattr(atoms, "numbers"):
            raise TypeError(f"LazyEnvironments: expected a list of ase.Atoms, got {type(atoms).__name__}.")
        self.atoms, self.settings = atoms, settings
        self[:1]  # wrong settings are found now

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def shape(self) -> tuple[int]:
        """(molecules,)."""
        return (len(self),)

    def __getitem__(self, index: Any) -> Environments:
        """The environments of some molecules. Raises IndexError for an index out of range and a mask of another length."""
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:
            index = index[0]  # scikit-learn asks for x[indices, ...]
        index = index if isinstance(index, slice) else np.asarray(index)
        rows = np.atleast_1d(np.arange(len(self))[index])
        runs = np.split(rows, range(BLOCK, len(rows), BLOCK))  # the workspace of all would be three times the result
        parts = [environments([self.atoms[int(row)] for row in run], **self.settings) for run in runs]
        return parts[0] if len(parts) == 1 else Environments.concatenate(parts)
