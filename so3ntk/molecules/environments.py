"""The environments of all atoms of a list of molecules: a batch that is indexed by molecule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from so3ntk.basics.arrays import ArrayLike, refuse_masked
from so3ntk.basics.double import double_precision
from so3ntk.molecules.coefficients import environment_coefficients, split_radial
from so3ntk.molecules.elements import atomic_number, species_numbers
from so3ntk.molecules.neighbours import pairs_within
from so3ntk.molecules.radial import Powers, Shells
from so3ntk.molecules.settings import EnvironmentSettings, require_equal
from so3ntk.molecules.structures import check_structures, require_ase
from so3ntk.sphere.rotations import check_bandlimit
from so3ntk.sphere.signals import SphereSignal, concatenate

if TYPE_CHECKING:
    from ase import Atoms


class StaticArray:
    """A read-only NumPy integer array that hashes and compares by content: metadata for JAX."""

    __slots__ = ("_hash", "array")

    def __init__(self, array):
        self.array = np.array(array, np.int64)
        self.array.flags.writeable = False
        self._hash = hash((self.array.shape, self.array.tobytes()))

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return isinstance(other, StaticArray) and (self is other or np.array_equal(self.array, other.array))

    def __repr__(self):
        return f"StaticArray({self.array!r})"


class Environments(eqx.Module):
    """One signal per atom, grouped into molecules: what kernels of molecules act on.

    signal: the environments of all atoms, in the order of the molecules. ``molecule`` and ``numbers``
    (atoms,) say which molecule an atom belongs to (0..n-1, ascending) and its atomic number. They are NumPy
    arrays and static for JAX: a jitted function of Environments is compiled anew for molecules with other
    elements or sizes. ``settings``, static too, say what the channels mean; None where that is not known. Batches of
    unlike settings are not concatenated, and have no kernel with each other.

    Length, indices and shape are those of the molecules, so that scikit-learn's splitters work: ``x[3]`` (a
    batch of one), ``x[2:5]``, ``x[[4, 0, 4]]``, ``x[mask]``; molecules are renumbered in the order given.

    Raises ValueError if the numbers of atoms disagree, for masked arrays, or if molecules are not numbered 0..n-1 in ascending
    order, TypeError for other settings.
    """

    #: How a list X of batches becomes one, for messages.
    joined: ClassVar[str] = "Environments.concatenate(X)"

    signal: SphereSignal
    _molecule: StaticArray = eqx.field(static=True)
    _numbers: StaticArray = eqx.field(static=True)
    settings: EnvironmentSettings | None = eqx.field(static=True)

    def __init__(self, signal: SphereSignal, molecule, numbers, settings: EnvironmentSettings | None = None):
        for name, values in (("molecule", molecule), ("numbers", numbers)):
            refuse_masked(values, f"Environments: {name}")
        molecule, numbers = np.asarray(molecule), np.asarray(numbers)
        n_atoms = len(signal.coefficients)
        if molecule.shape != (n_atoms,) or numbers.shape != (n_atoms,):
            raise ValueError(
                f"Environments: expected molecule and numbers of shape ({n_atoms},), one entry per signal, "
                f"got {molecule.shape} and {numbers.shape}."
            )
        if not all(np.issubdtype(a.dtype, np.integer) for a in (molecule, numbers)):
            raise ValueError(f"Environments: expected integers, got {molecule.dtype} and {numbers.dtype}.")
        if not np.isin(np.diff(molecule, prepend=molecule[:1]), (0, 1)).all() or np.any(molecule[:1]):
            raise ValueError(
                "Environments: expected molecules numbered 0, 1, 2, ... with their atoms in that order, got "
                f"{molecule[:12].tolist()}{' ...' if n_atoms > 12 else ''}."
            )
        if not (settings is None or isinstance(settings, EnvironmentSettings)):
            raise TypeError(
                f"Environments: expected settings to be those of other environments (x.settings) or None, got {settings!r}."
            )
        self.signal, self._molecule, self._numbers = signal, StaticArray(molecule), StaticArray(numbers)
        self.settings = settings

    @property
    def molecule(self) -> Int[np.ndarray, " atoms"]:
        """The molecule of each atom, 0..n-1, ascending; read-only."""
        return self._molecule.array

    @property
    def numbers(self) -> Int[np.ndarray, " atoms"]:
        """The atomic number of each atom; read-only."""
        return self._numbers.array

    def __len__(self) -> int:
        return int(self.molecule[-1]) + 1 if len(self.molecule) else 0

    @property
    def shape(self) -> tuple[int]:
        """(molecules,): what scikit-learn asks for the number of samples."""
        return (len(self),)

    def __getitem__(self, index) -> Environments:
        """Some molecules. Raises IndexError for an index out of range and a mask of another length."""
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:
            index = index[0]  # scikit-learn asks for x[indices, ...]
        chosen = np.atleast_1d(np.arange(len(self))[_host_index(index)])
        if chosen.ndim != 1:
            raise IndexError(f"Environments: expected one index, for molecules, got {index!r}.")
        first = np.searchsorted(self.molecule, np.arange(len(self) + 1))
        sizes = (first[1:] - first[:-1])[chosen]
        molecule = np.repeat(np.arange(len(chosen)), sizes)
        within = np.arange(len(molecule)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        atoms = np.repeat(first[chosen], sizes) + within
        return Environments(self.signal[atoms], molecule, self.numbers[atoms], self.settings)

    def atoms_of(self, element: str | int) -> Int[np.ndarray, " n"]:
        """The indices of all atoms of one element, given as a symbol or an atomic number."""
        return np.flatnonzero(self.numbers == atomic_number(element, "Environments.atoms_of"))

    @classmethod
    def concatenate(cls, parts: Sequence[Environments]) -> Environments:
        """One batch of the molecules of all parts. ValueError for none, and unlike bandlimits, channels or settings.

        Its settings are None if those of a part are.
        """
        parts = list(parts)
        signal = concatenate([part.signal for part in parts])
        starts = np.cumsum([0, *(len(part) for part in parts)])
        molecule = np.concatenate([part.molecule + start for part, start in zip(parts, starts[:-1], strict=True)])
        numbers = np.concatenate([part.numbers for part in parts])
        known = [(i, part.settings) for i, part in enumerate(parts) if part.settings is not None]
        for i, settings in known:
            require_equal(known[0][1], settings, "Environments.concatenate", f"parts {known[0][0]} and {i}")
        return cls(signal, molecule, numbers, known[0][1] if len(known) == len(parts) else None)


def environments(
    atoms: Atoms | Iterable[Atoms],
    species: Sequence[str | int] = ("H", "C", "N", "O", "F"),
    powers: Sequence[float | np.number] | Float[np.ndarray, " powers"] | float = (2, 6),
    bandlimit: int = 6,
    angular_width: ArrayLike | None = None,
    cutoff: float | None = None,
    dtype=None,
    length: float = 1.0,
    radial: Powers | Shells | None = None,
) -> Environments:
    """Environments of every atom of one molecule (``ase.Atoms``) or of a list of them.

    Formulas, units (Angstrom) and the meaning of the arguments: :func:`environment_coefficients`; of ``radial``, localised
    functions in place of powers: :class:`so3ntk.molecules.Shells`. Computed in
    float64 whatever JAX is set to, then cast to ``dtype``, float32 or float64: by default float64 if
    jax_enable_x64 is set and float32 if not. A molecule of one atom has the zero signal. Not differentiable: use
    ``environment_coefficients`` for that.

    Raises TypeError for anything but ase.Atoms and for another dtype. ValueError for an empty list, a molecule without atoms, NaN
    or infinite coordinates, two atoms closer than 0.001 Angstrom, elements not among the species, ghost
    atoms, periodic structures without a cutoff, and wrong settings: see there. ImportError if ase is missing.
    """
    where = "environments"
    powers, length, shells = split_radial(radial, powers, length, cutoff, angular_width, where)
    reach = cutoff if shells is None else shells.cutoff
    structures = _structures(atoms, require_ase(where).Atoms, reach)
    check_bandlimit(bandlimit, where)
    species_numbers(species, where)
    dtype = _result_dtype(dtype)
    numbers = np.concatenate([a.numbers for a in structures])
    molecule = np.repeat(np.arange(len(structures)), [len(a) for a in structures])
    with double_precision():
        coefficients = np.asarray(
            environment_coefficients(
                np.concatenate([a.positions for a in structures]),
                numbers,
                molecule,
                species=species,
                powers=powers,
                bandlimit=bandlimit,
                angular_width=angular_width,
                cutoff=cutoff,
                edges=None if reach is None else pairs_within(structures, reach),
                length=length,
                radial=shells,
            )
        )
    settings = EnvironmentSettings.of(species, powers, angular_width, cutoff, length, shells)
    return Environments(SphereSignal(jnp.asarray(coefficients, dtype), bandlimit), molecule, numbers, settings)


def _structures(atoms: Any, atoms_class: type, cutoff: float | None) -> list[Any]:
    """The molecules as a list, with errors for what no environment can be made of."""
    if not isinstance(atoms, Iterable):
        raise TypeError(f"environments: expected ase.Atoms or a list of them, got {type(atoms).__name__}.")
    structures: list[Any] = [atoms] if isinstance(atoms, atoms_class) else list(atoms)
    if not structures:
        raise ValueError("environments: expected at least one molecule, got an empty list.")
    for number, structure in enumerate(structures):
        if not isinstance(structure, atoms_class):
            raise TypeError(f"environments: expected ase.Atoms, got {type(structure).__name__} at position {number}.")
        if cutoff is None and structure.pbc.any():
            raise ValueError(
                f"environments: structure {number} is periodic (pbc {structure.pbc.tolist()}), and its "
                "environments would be infinite sums. Pass a cutoff in Angstrom, or set atoms.pbc = False "
                "if it is a molecule."
            )
    check_structures(structures, "environments")
    return structures


def _result_dtype(dtype) -> np.dtype:
    allowed = jax.dtypes.canonicalize_dtype(np.float64)
    wanted = allowed if dtype is None else np.dtype(dtype).newbyteorder("=")
    if wanted not in (np.float32, np.float64):
        raise TypeError(f"environments: expected dtype to be float32 or float64, got {wanted}.")
    if wanted == np.float64 and allowed != np.float64:
        raise ValueError(
            "environments: float64 was asked for, but JAX is set to 32 bits. Call "
            "jax.config.update('jax_enable_x64', True) first, or pass dtype='float32'."
        )
    return wanted


def _host_index(index: Any) -> Any:
    if isinstance(index, slice):
        return index
    refuse_masked(index, "Environments: the indices")
    index = np.asarray(index)
    return index.astype(int) if index.shape == (0,) and index.dtype != bool else index  # [] is float for NumPy
