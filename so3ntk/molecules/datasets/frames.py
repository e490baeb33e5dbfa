"""Frames: structures with energies, forces and stresses, some of which a frame may lack; isolated atoms apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from ase import Atoms

#: How much the energies of two isolated atoms of one element may differ, relatively.
SAME = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Frames:
    """Structures with what is known of each; numbers in ``unit``, per Angstrom and Angstrom^3.

    atoms: ``ase.Atoms`` without constraints and calculators. energies (n,), NaN for a frame without; forces: a list of (atoms, 3),
    None for a frame without; stresses: a list of (3, 3), dE/dstrain / volume as ase has them, None for a frame without.
    isolated: energies of isolated atoms by symbol, which are no frames here. sources: file and number there of each frame.
    keys: the names of "energy", "forces" and "stress" in the files.

    Made by ``read_frames``; ``frames[rows]`` are some of them, ``frames.counts()`` says in a line what there is.
    """

    atoms: list[Atoms]
    energies: Float[np.ndarray, " n"]
    forces: list[np.ndarray | None]
    stresses: list[np.ndarray | None]
    unit: str
    isolated: Mapping[str, float] = field(default_factory=dict)
    sources: Sequence[tuple[str, int]] = ()
    keys: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.atoms)

    def __getitem__(self, indices) -> Frames:
        """Some of the frames: a slice, indices or a mask; one integer gives a data set of one."""
        rows = np.atleast_1d(np.arange(len(self))[indices])
        lists = {name: [getattr(self, name)[i] for i in rows] for name in ("atoms", "forces", "stresses")}
        sources = [self.sources[i] for i in rows] if self.sources else ()
        return replace(self, **lists, energies=self.energies[rows], sources=sources)

    def __repr__(self) -> str:
        return f"Frames({self.counts()})"

    def counts(self) -> str:
        """How much of everything there is, in one line."""
        elements = sorted({symbol for atoms in self.atoms for symbol in atoms.get_chemical_symbols()})
        per = {"energy": "", "forces": "/Angstrom", "stress": "/Angstrom^3"}
        found = {
            "energy": int(np.isfinite(self.energies).sum()),
            "forces": sum(one is not None for one in self.forces),
            "stress": sum(one is not None for one in self.stresses),
        }
        parts = [f"{len(self)} frames of {sum(map(len, self.atoms))} atoms ({', '.join(elements)})"]
        parts += [
            f"{name} of {'all' if count == len(self) else count} ({self.keys.get(name, name)}, {self.unit}{per[name]})"
            for name, count in found.items()
            if count
        ]
        return "; ".join(parts + ([f"isolated atoms {', '.join(self.isolated)}"] if self.isolated else []))


def without_isolated(frames: Frames, where: str) -> Frames:
    """The frames that are no isolated atoms, and the energies of these."""
    found: dict[str, tuple[float, str]] = {}
    kept = np.ones(len(frames), bool)
    for row, (atoms, energy) in enumerate(zip(frames.atoms, frames.energies.tolist(), strict=True)):
        if np.isnan(energy) or not is_isolated(atoms):
            continue
        kept[row], symbol = False, atoms.get_chemical_symbols()[0]
        place = "{}, frame {}".format(*frames.sources[row])
        known, other = found.setdefault(symbol, (energy, place))
        if abs(known - energy) > SAME * max(abs(known), abs(energy)):
            raise ValueError(
                f"{where}: isolated atoms of {symbol} have different energies, {known:g} ({other}) and {energy:g} ({place}). "
                "Leave one of them in the files."
            )
    if not kept.any():
        raise ValueError(
            f"{where}: there are isolated atoms alone ({', '.join(found)}), and no frame of several atoms."
        )
    return replace(frames[kept], isolated={symbol: energy for symbol, (energy, _) in found.items()})


def is_isolated(atoms: Atoms) -> bool:
    """One atom without periodic boundaries, or of which its file says so."""
    said = str(atoms.info.get("config_type", "")).lower() in ("isolatedatom", "isolated_atom")
    return len(atoms) == 1 and (said or not atoms.pbc.any())
