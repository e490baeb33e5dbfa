"""Checkpoints: the state of a training run as one npz file of plain arrays, and whose state it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from so3ntk.basics.files import replace_file

#: What a checkpoint must agree with, and the words for one that does not.
PARTS = {
    "environment": "was written by {saved}, and this is {ours}, which rounds differently",
    "network": "is of another network",
    "data": "is of other data: x, y or watch differ",
    "settings": "is of another run: learning rate, optimizer, batch, members, key or number format differ",
}


class Progress(NamedTuple):
    """After ``step`` steps: the arrays of the state, the losses, and predictions recorded after the steps ``marks``."""

    step: int
    leaves: list[np.ndarray]
    losses: Float[np.ndarray, "step members"]
    marks: Int[np.ndarray, " t"]
    recorded: list[np.ndarray]


def digest(*parts: PyTree) -> str:
    """A hash of text and of pytrees of arrays: their shapes, types and bytes, and structure."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            found.update(f"{len(part)} {part}".encode())
            continue
        leaves, structure = jax.tree.flatten(part)
        found.update(_without_addresses(str(structure)).encode())
        for leaf in leaves:
            array = np.asarray(leaf)
            found.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def program(function: Callable, *arguments: PyTree) -> str:
    """A hash of what a function computes, constants included: it tells apart what has equal names and shapes."""
    traced = jax.make_jaxpr(function)(*arguments)
    return digest(_without_addresses(str(traced)), list(traced.consts))


def environment() -> str:
    """What must be equal for equal bits, besides the program."""
    return f"jax {jax.__version__} on {jax.default_backend()}"


def save(path: Path, identity: dict[str, str], progress: Progress) -> None:
    """Write the file whole or not at all."""
    columns: dict[str, Any] = {f"is_{name}": np.array(value) for name, value in identity.items()}
    columns |= {f"state_{i}": leaf for i, leaf in enumerate(progress.leaves)}
    columns |= {f"recorded_{i}": values for i, values in enumerate(progress.recorded)}
    columns |= {"step": np.array(progress.step), "losses": progress.losses, "marks": progress.marks}

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:  # np.savez would append .npz to a name
            np.savez(file, **columns)

    replace_file(path, write)


def load(path: Path, identity: dict[str, str], like: list[Array]) -> Progress:
    """The progress that a file holds; ValueError if it is damaged or of another run. like: arrays of the state."""
    columns = _read(path)
    for name, words in PARTS.items():
        saved = str(columns.get(f"is_{name}", ""))
        if saved != identity[name]:
            reason = words.format(saved=saved or "something else", ours=identity[name])
            raise ValueError(
                f"training.train: the checkpoint {path} {reason}. Name another file, or remove this one to start anew."
            )
    try:
        found = Progress(
            int(columns["step"]),
            [columns[f"state_{i}"] for i in range(len(like))],
            columns["losses"],
            columns["marks"],
            [columns[f"recorded_{i}"] for i in range(len(columns["marks"]))],
        )
    except KeyError as error:
        raise ValueError(f"training.train: the checkpoint {path} lacks the array {error}: it is damaged.") from error
    fits = [(a.shape, a.dtype) for a in found.leaves] == [(a.shape, a.dtype) for a in like]
    if not fits or len(found.losses) != found.step:
        raise ValueError(f"training.train: the arrays of the checkpoint {path} do not fit each other: it is damaged.")
    return found


def _read(path: str | PathLike) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever the damage leads zipfile and NumPy to raise
        raise ValueError(
            f"training.train: {path} is not a readable checkpoint ({type(error).__name__}: {error}). Remove it to "
            "start anew."
        ) from error


def _without_addresses(text: str) -> str:
    """Functions print where they are in memory, which changes from process to process."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
