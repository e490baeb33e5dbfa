"""QM9: 130,831 organic molecules of up to nine heavy atoms. Source: Sci. Data 1, 140022 (2014), CC0."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from so3ntk.molecules.datasets.archive import read_archive, take_rows, write_archive
from so3ntk.molecules.datasets.data import MoleculeData, read_numbers, sample_rows
from so3ntk.molecules.datasets.polarizability import anisotropies
from so3ntk.molecules.datasets.xyz import element_number, plain_float
from so3ntk.molecules.structures import require_ase

#: Column in the files of qm9pack and unit of each target. What is in eV here is in Hartree in the files.
TARGETS = {
    "U0": ("InternalEnergy_0K_au", "eV"),
    "U298": ("InternalEnergy_298K_au", "eV"),
    "H298": ("Enthalphy_298K_au", "eV"),
    "G298": ("GibbsFreeEnergy_298K_au", "eV"),
    "homo": ("HOMO_au", "eV"),
    "lumo": ("LUMO_au", "eV"),
    "gap": ("HOMO_LUMO_gap_au", "eV"),
    "zpve": ("ZPVE_au", "eV"),
    "Cv": ("Heatcapacity_Cv_cal_mol_K", "cal/(mol K)"),
    "mu": ("Dipole_debye", "Debye"),
    "alpha": ("Polarizability_bohr3", "Bohr^3"),
    "r2": ("R2_bohr2", "Bohr^2"),
}
_FILES = "qm9_part*.csv"
_FORMAT = "1"  # of the cached files: change it when their content changes


def load_qm9(
    n: int | None = None,
    seed: int = 0,
    target: str = "U0",
    path: str | PathLike | None = None,
    cache: bool = True,
) -> MoleculeData:
    """QM9 molecules with one property each: n drawn uniformly without replacement, or all of them.

    Drawn molecules come in a random order that the seed fixes, so ``load_qm9(100)`` is the head of
    ``load_qm9(200)`` and every slice is a fair sample. With n None they come in the order of the source,
    where size rises.

    Targets and units: U0, U298, H298, G298 (total energies: subtract :class:`CompositionBaseline` before a
    regression), homo, lumo, gap, zpve in eV (1 Hartree = ``ase.units.Hartree``); Cv in cal/(mol K); mu in
    Debye; alpha in Bohr^3; r2 in Bohr^2. anisotropy: of the polarisability tensor, in Bohr^3, from a folder only; the
    tensors themselves are not in the frame of the geometries (see :mod:`so3ntk.molecules.datasets.polarizability`). Positions in Angstrom. ``index`` is QM9's own number, 1 to 133885.

    path: None reads the CSV files of the installed package qm9pack, without importing it. A folder is read as
    such a set of files; an npz file in the layout of :mod:`so3ntk.molecules.datasets.archive`, with energies in
    Hartree; any other file by :func:`read_molecules`, with the target as its key and its values as they are, or as QM9's
    own xyz files have them.
    cache: keep what was parsed from CSV files in $SO3NTK_CACHE, else $XDG_CACHE_HOME/so3ntk, else
    ~/.cache/so3ntk (a file per n and seed, 0.6 kB per molecule; it may be deleted at any time). A damaged one
    is rebuilt.

    Raises ValueError for an unknown target, more molecules than exist, and unreadable or contradictory files;
    FileNotFoundError; ImportError if ase, or without a path qm9pack, is missing.
    """
    where = "load_qm9"
    if target == "anisotropy":
        return _with_anisotropy(n, seed, path, cache)
    if target not in TARGETS:
        raise ValueError(f"{where}: unknown target {target!r}; there are {', '.join(TARGETS)}, anisotropy.")
    require_ase(where)
    if path is None or Path(path).is_dir():
        columns = _from_csv(_package_folder() if path is None else Path(path), n, seed, cache)
    elif Path(path).suffix == ".npz":
        columns = read_archive(path, TARGETS)
        columns = take_rows(columns, sample_rows(len(columns["offsets"]) - 1, n, seed, where))
    else:
        data = read_numbers(path, target, TARGETS[target][1], where, "target_key of read_molecules")
        return data[sample_rows(len(data), n, seed, where)]
    return _molecule_data(columns, target, path)


def _with_anisotropy(n: int | None, seed: int, path: str | PathLike | None, cache: bool) -> MoleculeData:
    if path is not None and not Path(path).is_dir():
        raise ValueError(
            f"load_qm9: the target anisotropy needs the folder of CSV files of qm9pack, got the file {path}."
        )
    data = load_qm9(n, seed, "alpha", path, cache)
    folder = _package_folder() if path is None else Path(path)
    targets = anisotropies(folder, data.index, data.targets)
    return replace(data, targets=targets, target="anisotropy")


def _molecule_data(columns: Mapping[str, np.ndarray], target: str, path) -> MoleculeData:
    from ase import Atoms
    from ase.units import Hartree

    if target not in columns:
        held = ", ".join(name for name in TARGETS if name in columns)
        raise ValueError(f"load_qm9: {path} has no target {target!r}; it has {held or 'none'}.")
    unit = TARGETS[target][1]
    targets = columns[target].astype(np.float64) * (Hartree if unit == "eV" else 1.0)
    if not np.isfinite(targets).all():
        index = columns["index"][np.argmin(np.isfinite(targets))]
        raise ValueError(f"load_qm9: the {target} of molecule {index} is NaN or infinite.")
    bounds = columns["offsets"].tolist()
    atoms = [Atoms(columns["Z"][a:b], columns["R"][a:b]) for a, b in pairwise(bounds)]
    for molecule, smiles in zip(atoms, columns.get("smiles", ()), strict=False):
        molecule.info["smiles"] = str(smiles)
    return MoleculeData(atoms, targets, target, unit, columns["index"].astype(np.int64))


def _package_folder() -> Path:
    """The data folder of qm9pack, found without running any of its code."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "load_qm9: the data come from the package qm9pack, which is not installed: pip install -e "
            "'.[molecules]' in the checkout of so3ntk (225 MB), or pass path= to a file of your own."
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _from_csv(folder: Path, n: int | None, seed: int, cache: bool) -> dict[str, np.ndarray]:
    """The sampled molecules of a folder of CSV files, from the cache if they are there."""
    files = sorted(folder.glob(_FILES))
    if not files:
        raise FileNotFoundError(f"load_qm9: there are no files {_FILES} in {folder}.")
    if not cache:
        return _parse_files(files, n, seed)
    cached = _cache_folder() / f"qm9-{_fingerprint(files, n, seed)}.npz"
    try:
        columns = read_archive(cached, TARGETS)
        if {*TARGETS, "index", "smiles"} <= set(columns):
            return columns
    except (OSError, ValueError):
        pass  # absent or damaged: parse again
    columns = _parse_files(files, n, seed)
    try:
        write_archive(cached, columns)
    except OSError as error:
        warnings.warn(
            f"load_qm9: cannot write the cache {cached} ({error}). Set SO3NTK_CACHE to a folder that can be "
            "written, or pass cache=False.",
            stacklevel=3,
        )
    return columns


def _cache_folder() -> Path:
    if own := os.environ.get("SO3NTK_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "so3ntk"


def _fingerprint(files: Sequence[Path], n: int | None, seed: int) -> str:
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((_FORMAT, stats, n, seed)).encode()).hexdigest()[:24]


def _parse_files(files: Sequence[Path], n: int | None, seed: int) -> dict[str, np.ndarray]:
    """Count the lines of all files, draw some, and parse only those."""
    counts = [max(sum(1 for _ in _lines(file)) - 1, 0) for file in files]
    rows = sample_rows(sum(counts), n, seed, "load_qm9")
    slots = {int(row): slot for slot, row in enumerate(rows)}
    records, row = {}, 0
    for file in files:
        lines = _lines(file)
        _, header = next(lines, (0, b""))
        columns = _column_numbers(next(csv.reader([header.decode("utf-8-sig", "replace")]), []), file)
        for number, line in lines:
            if row in slots:
                records[slots[row]] = _parse_line(line, columns, f"load_qm9: {file}, line {number}")
            row += 1
    return _as_columns([records[slot] for slot in range(len(rows))])


def _lines(file: Path):
    """The numbers of the lines of a file that are not blank, from 1 on, and the lines as bytes."""
    with open(file, "rb") as handle:
        yield from ((number, line) for number, line in enumerate(handle, 1) if not line.isspace())


def _column_numbers(header: list[str], file: Path) -> dict[str, int]:
    wanted = {"index": "Index", "smiles": "SMILES", "Z": "Elements", "R": "XYZ_Ang"}
    wanted |= {target: column for target, (column, _) in TARGETS.items()}
    missing = [column for column in wanted.values() if column not in header]
    if missing:
        raise ValueError(
            f"load_qm9: {file} lacks the columns {', '.join(missing)}; its header has {', '.join(header) or 'none'}."
        )
    return {name: header.index(column) for name, column in wanted.items()}


def _parse_line(line: bytes, columns: Mapping[str, int], where: str) -> dict[str, Any]:
    """One molecule: Elements as "['C','H',...]" and XYZ_Ang as "[[x,y,z],...]"; numbers as plain text."""
    try:
        fields = next(csv.reader([line.decode()]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{where}: no line of a CSV file in UTF-8 ({error}).") from error
    if len(fields) <= max(columns.values()):
        raise ValueError(
            f"{where}: expected {max(columns.values()) + 1} fields or more, got {len(fields)}: it is truncated. Fetch the file "
            "again; pip install --force-reinstall qm9pack restores the package's own."
        )
    record: dict[str, Any] = {"smiles": fields[columns["smiles"]]}
    for name, read in (("index", int), ("Z", _numbers), ("R", _positions), *((name, plain_float) for name in TARGETS)):
        try:
            record[name] = read(fields[columns[name]])
        except ValueError as error:
            raise ValueError(f"{where}: cannot read {name} from {fields[columns[name]][:40]!r}: {error}") from error
    if len(record["R"]) != len(record["Z"]):
        raise ValueError(f"{where}: expected a position for each of {len(record['Z'])} atoms, got {len(record['R'])}.")
    return record


def _numbers(text: str) -> list[int]:
    return [element_number(entry.strip(" '\"")) for entry in text.strip("[]").split(",")]


def _positions(text: str) -> np.ndarray:
    values = np.array([plain_float(entry.strip()) for entry in text.replace("[", "").replace("]", "").split(",")])
    if values.size % 3:
        raise ValueError(f"expected three coordinates for each atom, got {values.size} numbers.")
    return values.reshape(-1, 3)


def _as_columns(records: Sequence[dict]) -> dict[str, np.ndarray]:
    """The records as the arrays of an archive."""
    sizes = [len(record["Z"]) for record in records]
    columns = {name: np.array([record[name] for record in records]) for name in ("index", "smiles", *TARGETS)}
    return {
        "Z": np.concatenate([record["Z"] for record in records]).astype(np.uint8),
        "R": np.concatenate([record["R"] for record in records]),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]),
        **columns,
    }
