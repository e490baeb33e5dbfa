"""A training run: step after step, with losses, recorded predictions and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from tqdm.auto import tqdm

from so3ntk.engine.network import Network
from so3ntk.errors import PrecisionError
from so3ntk.finite.training.checkpoint import Progress, digest, environment, load, program, save
from so3ntk.finite.training.descent import Descent, Ensemble, advance, member, outputs

#: Steps between two looks at the losses.
LOOK = 32


@dataclass
class Run:
    """The state of a run, advanced by ``finish``. data: keys of batches, inputs, targets. marks: steps to record."""

    net: Network
    descent: Descent
    data: tuple[Array, PyTree, Array]
    ensemble: Ensemble
    watch: PyTree
    marks: Int[np.ndarray, " t"]
    index: int = 0
    losses: list[np.ndarray] = field(default_factory=list)
    recorded: list[np.ndarray] = field(default_factory=list)
    _pending: list[Array] = field(default_factory=list)
    _file: tuple[Path, dict[str, str], int] | None = None

    def keep(self, path: Path, settings: tuple, every: int) -> None:
        """Go on from the checkpoint if it is there, and write it after every so many steps."""
        path.parent.mkdir(parents=True, exist_ok=True)
        identity = self._identity(settings)
        self._file = path, identity, every
        if not path.exists():
            return
        leaves, structure = jax.tree.flatten(self.ensemble)
        found = load(path, identity, leaves)
        earlier = self.marks[self.marks <= found.step]
        if not np.array_equal(earlier, found.marks):
            raise ValueError(
                f"training.train: the checkpoint {path} holds predictions recorded after the steps "
                f"{found.marks.tolist()}, where times asks for {earlier.tolist()}. "
                "Times up to where it stopped must be the same."
            )
        self.ensemble = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found.leaves])
        self.index, self.losses, self.recorded = found.step, list(found.losses), found.recorded

    def finish(self, steps: int, progress: bool) -> None:
        """All steps that are left. PrecisionError if a loss is not finite, ValueError if it is past them already."""
        if self.index > steps:
            raise ValueError(
                f"training.train: the checkpoint {self._file and self._file[0]} is at step {self.index} already, and "
                f"steps is {steps}. Raise steps, or name another file."
            )
        if self.index == 0:
            self._record()
        # One compiled step, called from here: where a run was cut cannot change its bits.
        with tqdm(total=steps, initial=self.index, unit="step", disable=not progress) as bar:
            while self.index < steps:
                self.ensemble, values = advance(
                    self.descent, self.net, self.ensemble, *self.data, jnp.asarray(self.index)
                )
                self._pending.append(values)
                self.index += 1
                self._record()
                due = self._file is not None and (self.index % self._file[2] == 0 or self.index == steps)
                if due or len(self._pending) == LOOK or self.index == steps:
                    bar.update(self._look())
                if due:
                    self._save()

    @property
    def stacked_losses(self) -> Float[np.ndarray, "steps members"]:
        """The losses before each step."""
        return np.stack(self.losses) if self.losses else np.zeros((0, len(self.data[0])))

    def stacked_records(self, k: int) -> Float[np.ndarray, "t members n k"]:
        """The recorded predictions."""
        return np.stack(self.recorded) if self.recorded else np.zeros((0, len(self.data[0]), 0, k))

    def _identity(self, settings: tuple) -> dict[str, str]:
        """Hashes by which a checkpoint knows its run. The number of steps is not among them: it may be raised."""
        keys, x, y = self.data
        step = partial(self.descent.step, self.net)
        return {
            "environment": environment(),
            "network": digest(self.net, program(self.net.apply_fn, member(self.ensemble.params, 0), x[:1])),
            "data": digest(x, y, self.watch),
            "settings": digest(*settings, keys.shape, program(step, self.ensemble, *self.data, jnp.asarray(0))),
        }

    def _record(self) -> None:
        if self.index in self.marks:
            self.recorded.append(np.asarray(outputs(self.net, self.ensemble.params, self.watch)))

    def _look(self) -> int:
        """Fetch the losses of the last steps; how many they are."""
        values = [np.asarray(value) for value in self._pending]
        first = len(self.losses)
        for i, losses in enumerate(values):
            if not np.isfinite(losses).all():
                members = np.flatnonzero(~np.isfinite(losses)).tolist()
                raise PrecisionError(
                    f"training.train: the loss is not finite before step {first + i}, in the members {members}. Lower "
                    "learning_rate: descent bears 2 n k over the NTK's largest eigenvalue (predict.max_learning_rate)."
                )
        self.losses += values
        self._pending = []
        return len(values)

    def _save(self) -> None:
        assert self._file is not None
        path, identity, _ = self._file
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self.ensemble)]
        marks = self.marks[self.marks <= self.index]
        save(path, identity, Progress(self.index, leaves, self.stacked_losses, marks, self.recorded))
