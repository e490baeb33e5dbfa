"""Kernels that learning_qm9.py compares with, each a representation and a kernel matrix: SOAP, FCHL19, FCHL18.

``represent(atoms, settings)`` of some molecules, ``kernel(a, b, settings)`` between two such representations (b None: of a with
itself). All are sums over pairs of like atoms. settings: parameters of the representation and of the kernel, and "elements" and
"pad", the elements and the largest number of atoms that occur. All representations are in memory: 46 kB an atom for SOAP,
about 9 GB for 10,000 molecules of QM9, and 6 kB for FCHL19.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Peer(NamedTuple):
    """packages: what is to be imported. settings: JSON's types only."""

    packages: tuple[str, ...]
    settings: dict[str, Any]
    represent: Callable[[Sequence[Any], dict[str, Any]], Any]
    kernel: Callable[[Any, Any, dict[str, Any]], np.ndarray]


#: Molecules whose rows of a kernel between atoms are in memory at a time.
BLOCK = 64


class Spectra(NamedTuple):
    """Normalised power spectra (atoms, d), the elements of the atoms, and the molecules that they belong to."""

    vectors: np.ndarray
    numbers: np.ndarray
    owner: np.ndarray
    count: int


def soap_spectra(atoms: Sequence[Any], settings: dict[str, Any]) -> Spectra:
    from dscribe.descriptors import SOAP

    soap = SOAP(species=settings["elements"], periodic=False, **settings["representation"])
    vectors = np.concatenate([soap.create(molecule) for molecule in atoms])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(atoms)), [len(molecule) for molecule in atoms])
    return Spectra(vectors, np.concatenate([molecule.numbers for molecule in atoms]), owner, len(atoms))


def soap_kernel(a: Spectra, b: Spectra | None, settings: dict[str, Any]) -> np.ndarray:
    """sum over pairs of like atoms of (p . p')^zeta, in blocks of molecules."""
    b = a if b is None else b
    kernel = np.zeros((a.count, b.count))
    for element in np.intersect1d(a.numbers, b.numbers):
        columns = np.flatnonzero(b.numbers == element)
        vectors, first = b.vectors[columns], _starts(b.owner[columns])
        for begin in range(0, a.count, BLOCK):
            rows = np.flatnonzero((a.numbers == element) & (a.owner >= begin) & (a.owner < begin + BLOCK))
            if not len(rows):
                continue
            pairs = (a.vectors[rows] @ vectors.T) ** settings["kernel"]["zeta"]
            starts = _starts(a.owner[rows])
            sums = np.add.reduceat(np.add.reduceat(pairs, first, axis=1), starts, axis=0)
            kernel[np.ix_(a.owner[rows][starts], b.owner[columns][first])] += sums
    return kernel


def _starts(owner: np.ndarray) -> np.ndarray:
    """Where the atoms of each molecule begin, in ascending order of molecules."""
    return np.flatnonzero(np.diff(owner, prepend=-1))


class Padded(NamedTuple):
    """Representations of atoms, padded (molecules, atoms, d), their charges (molecules, atoms) and their numbers."""

    vectors: np.ndarray
    charges: np.ndarray
    sizes: np.ndarray


def fchl19_vectors(atoms: Sequence[Any], settings: dict[str, Any]) -> Padded:
    from kernelforge.fchl19_repr import generate_fchl_acsf

    found = [
        generate_fchl_acsf(
            molecule.positions, molecule.numbers.astype(np.int32), elements=settings["elements"], **settings["representation"]
        )
        for molecule in atoms
    ]  # fmt: skip
    vectors = np.zeros((len(atoms), settings["pad"], found[0].shape[1]))
    charges = np.zeros((len(atoms), settings["pad"]), np.int32)
    for row, (molecule, each) in enumerate(zip(atoms, found, strict=True)):
        vectors[row, : len(each)], charges[row, : len(each)] = each, molecule.numbers
    return Padded(vectors, charges, np.array([len(molecule) for molecule in atoms], np.int32))


def fchl19_kernel(a: Padded, b: Padded | None, settings: dict[str, Any]) -> np.ndarray:
    """sum over pairs of like atoms of exp(-|x - x'|^2 / 2 sigma^2)."""
    from kernelforge import local_kernels

    sigma = settings["kernel"]["sigma"]
    if b is None:
        return local_kernels.kernel_gaussian_symm(a.vectors, a.charges, a.sizes, sigma)
    return local_kernels.kernel_gaussian(a.vectors, b.vectors, a.charges, b.charges, a.sizes, b.sizes, sigma)


def fchl18_neighbours(atoms: Sequence[Any], settings: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Padded distances, charges and directions of each atom's neighbours, numbers of atoms and of neighbours."""
    from kernelforge.fchl18_repr import generate

    return generate(
        [molecule.positions for molecule in atoms],
        [molecule.numbers.astype(np.int32) for molecule in atoms],
        max_size=settings["pad"],
        cut_distance=settings["kernel"]["cut_distance"],
    )


def fchl18_kernel(a: tuple, b: tuple | None, settings: dict[str, Any]) -> np.ndarray:
    """sum over pairs of atoms of exp(-d^2 / sigma^2), d the distance of their distributions of two and three bodies."""
    from kernelforge import fchl18_kernel as kernels

    if b is None:
        return kernels.kernel_gaussian_symm(*a, **settings["kernel"])
    (x1, n1, nn1), (x2, n2, nn2) = a, b
    return kernels.kernel_gaussian(x1, x2, n1, n2, nn1, nn2, **settings["kernel"])


#: The best of cutoffs 4, 5, 6 A and widths 0.3, 0.5, 1.0 A at 200 molecules of three seeds.
SOAP = Peer(
    ("dscribe.descriptors",),
    {"representation": {"r_cut": 4.0, "n_max": 8, "l_max": 6, "sigma": 0.3}, "kernel": {"zeta": 2}},
    soap_spectra,
    soap_kernel,
)

#: What kernelforge and qmllib have as defaults; written out, so that a record says it.
FCHL19_SHIPPED = {
    "nRs2": 24, "nRs3": 20, "eta2": 0.32, "eta3": 2.7, "rcut": 8.0, "acut": 8.0,
    "two_body_decay": 1.8, "three_body_decay": 0.57, "three_body_weight": 13.4,
}  # fmt: skip
#: Tuned on QM9.
FCHL19_TUNED = {
    "nRs2": 23, "nRs3": 22, "eta2": 0.27, "eta3": 5.6, "rcut": 6.0, "acut": 6.0,
    "two_body_decay": 2.78, "three_body_decay": 2.1, "three_body_weight": 60.1,
}  # fmt: skip


def fchl19(representation: dict[str, Any], sigma: float) -> Peer:
    settings = {"representation": representation, "kernel": {"sigma": sigma}}
    return Peer(("kernelforge", "kernelforge.local_kernels"), settings, fchl19_vectors, fchl19_kernel)


#: qmllib's defaults, which kernelforge's own model has too: those of its functions are others. Cutoff in A.
FCHL18_KERNEL = {
    "sigma": 2.5, "two_body_scaling": 8**0.5, "two_body_width": 0.2, "two_body_power": 4.0, "three_body_scaling": 1.6,
    "three_body_width": float(np.pi), "three_body_power": 2.0, "cut_start": 1.0, "cut_distance": 5.0, "fourier_order": 1,
    "use_atm": True,
}  # fmt: skip


def fchl18(alchemy: bool) -> Peer:
    """alchemy: elements that are near in the periodic table are alike; without it unlike atoms have no kernel."""
    settings = {"kernel": {**FCHL18_KERNEL, "use_alchemy": alchemy}}
    packages = ("kernelforge", "kernelforge.fchl18_kernel")
    return Peer(packages, settings, fchl18_neighbours, fchl18_kernel)


PEERS = {
    "soap": SOAP,
    "fchl19-shipped-2": fchl19(FCHL19_SHIPPED, 2.0),
    "fchl19-shipped-6": fchl19(FCHL19_SHIPPED, 6.0),
    "fchl19-tuned-2": fchl19(FCHL19_TUNED, 2.0),
    "fchl19-tuned-6": fchl19(FCHL19_TUNED, 6.0),
    "fchl18": fchl18(False),
    "fchl18-alchemy": fchl18(True),
}
