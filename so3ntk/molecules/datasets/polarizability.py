r"""The polarisability tensors of QM9 in the package qm9pack, and why only their invariants are offered.

``qm9_polarizability.csv`` holds A_xx, A_xy, A_yy, A_xz, A_yz, A_zz (Bohr^3) for all 130,831 molecules, **not in the frame
of the geometries**. Established on 3,000 of them: trace(A) / 3 is the scalar polarisability ``alpha`` (rms difference 0.003
Bohr^3, its rounding) and all eigenvalues are positive, but the axes are others: acetylene lies along x in the geometry
and along z in the tensor (27.86 against 10.49), HCN along y against z. The traceless part of A and that of the second
moment of the nuclear charges have a mean cosine of 0.03 as they stand, and of 0.90 after the geometry is turned to the
principal axes of the charges, longest extent along x: the tensors are in the standard orientation of the quantum
chemistry program. That orientation's signs and its order of near-equal axes cannot be rebuilt from the geometry with
certainty, so the tensors are no targets for an equivariant regression. What no rotation changes can be used:

.. math:: \Delta\alpha = \sqrt{\tfrac32 \sum_{ab} \bigl(A_{ab} - \tfrac13 \mathrm{tr} A\, \delta_{ab}\bigr)^2}
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

FILE = "qm9_polarizability.csv"
_ENTRIES = ("A_xx", "A_xy", "A_yy", "A_xz", "A_yz", "A_zz")
#: trace(A) / 3 and alpha are printed to 0.001 and 0.01.
_ROUNDING = 0.02


def anisotropies(folder: Path, index: Int[np.ndarray, " n"], alpha: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The anisotropy of the polarisability, Bohr^3, of molecules of given QM9 numbers: 0 for methane.

    For axial molecules it is the difference of the polarisabilities along the axis and across. Raises FileNotFoundError
    without the file; ValueError for a line that cannot be read, a molecule that is not there, and a tensor whose trace
    is not three times the molecule's alpha: the file is then of other molecules.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"load_qm9: the target anisotropy is read from {FILE}, which is not in {folder}.")
    wanted = {int(number) for number in index}
    found = {}
    with open(path, newline="") as handle:
        for row in csv.DictReader(handle):
            number, tensor = _parse(row, path)
            if number in wanted:
                found[number] = tensor
    missing = sorted(wanted - set(found))
    if missing:
        raise ValueError(f"load_qm9: {path} lacks {len(missing)} of the molecules, the first is {missing[0]}.")
    tensors = np.array([found[int(number)] for number in index]).reshape(-1, 3, 3)
    means = np.trace(tensors, axis1=1, axis2=2) / 3
    wrong = np.abs(means - alpha) > _ROUNDING
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(
            f"load_qm9: {path}: a third of the trace of molecule {index[first]} is {means[first]:.3f} Bohr^3, its alpha "
            f"{alpha[first]:.3f}. The two files are of different molecules."
        )
    traceless = tensors - means[:, None, None] * np.eye(3)
    return np.sqrt(1.5 * np.sum(traceless**2, axis=(1, 2)))


def _parse(row: dict, path: Path) -> tuple[int, np.ndarray]:
    try:
        xx, xy, yy, xz, yz, zz = (float(row[name]) for name in _ENTRIES)
        number = int(row["XYZ_file"].split("_")[1].split(".")[0])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"load_qm9: cannot parse {path}, at {row.get('XYZ_file')!r} ({error!r}).") from error
    return number, np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
