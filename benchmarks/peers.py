"""Gram matrices of the kernels that learning_qm9.py compares with: SOAP (dscribe) and FCHL19 (qmllib)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: SOAP: cutoff and width in Angstrom, the best of 4, 5, 6 and of 0.3, 0.5, 1.0 at 200 molecules of three seeds.
SOAP_CUTOFF, SOAP_WIDTH = 4.0, 0.3


def soap_kernel(
    atoms: Sequence[Any], cutoff: float = SOAP_CUTOFF, width: float = SOAP_WIDTH, zeta: int = 2
) -> np.ndarray:
    """sum over pairs of like atoms of (p . p')^zeta, with normalised power spectra p (n_max = 8, l_max = 6)."""
    from dscribe.descriptors import SOAP

    species = sorted({symbol for molecule in atoms for symbol in molecule.get_chemical_symbols()})
    soap = SOAP(species=species, r_cut=cutoff, n_max=8, l_max=6, sigma=width, periodic=False)
    spectra = np.concatenate([soap.create(molecule) for molecule in atoms])
    spectra /= np.linalg.norm(spectra, axis=1, keepdims=True)
    numbers = np.concatenate([molecule.numbers for molecule in atoms])
    owner = np.repeat(np.arange(len(atoms)), [len(molecule) for molecule in atoms])
    kernel = np.zeros((len(atoms), len(atoms)))
    for element in np.unique(numbers):
        rows = np.flatnonzero(numbers == element)
        first = np.flatnonzero(np.diff(owner[rows], prepend=-1))
        pairs = (spectra[rows] @ spectra[rows].T) ** zeta
        sums = np.add.reduceat(np.add.reduceat(pairs, first, axis=0), first, axis=1)
        here = owner[rows][first]
        kernel[np.ix_(here, here)] += sums
    return kernel


def fchl19_kernel(atoms: Sequence[Any], sigma: float) -> np.ndarray:
    """sum over pairs of like atoms of exp(-|x - x'|^2 / 2 sigma^2), with the FCHL19 representation x."""
    from qmllib.kernels import get_local_symmetric_kernel
    from qmllib.representations import generate_fchl19

    elements = sorted({int(z) for molecule in atoms for z in molecule.numbers})
    largest = max(len(molecule) for molecule in atoms)
    representations = np.array(
        [generate_fchl19(m.numbers, m.positions, elements=elements, pad=largest, gradients=False) for m in atoms]
    )
    return np.asarray(get_local_symmetric_kernel(representations, [m.numbers.tolist() for m in atoms], sigma))
