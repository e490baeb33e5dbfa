"""The text of xyz files, brought into the form that ase reads; what is wrong is named with its line.

A frame is a line with the number of atoms, a comment, and a line for each atom: its symbol and coordinates, or what the
comment's ``Properties`` lists. Programs also write what ase refuses, or passes over: byte-order marks, atomic numbers for
symbols, exponents of Fortran (1.0D-3) and of Mathematica (1.0*^-3, in QM9), blank lines between frames (where ase stops
reading), and QM9's own frames, with fifteen properties in the comment and three lines after the atoms.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from so3ntk.molecules.elements import SYMBOLS

SUFFIXES = (".xyz", ".extxyz")
#: The comment's numbers in QM9's own files after "gdb" and the molecule's number, by ``load_qm9``'s names; A, B, C in GHz.
QM9_ENTRIES = (
    "A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U298", "H298", "G298", "Cv",
)  # fmt: skip
#: Those in Hartree.
QM9_ENERGIES = ("homo", "lumo", "gap", "zpve", "U0", "U298", "H298", "G298")
_QM9_COMMENT = re.compile(r"gdb\s+\d+(\s+\S+){15}\s*")
_DEFAULT_COLUMNS = "species:S:1:pos:R:3"
_ISOTOPES = {"D": "deuterium", "T": "tritium"}
#: A number with another exponent than C's; where it stands in a text, it has a point, unlike a name such as 1D2.
_EXPONENT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[dD]|\*\^)([+-]?\d+)")
_EXPONENT_IN_TEXT = re.compile(r"(?<![\w.])([+-]?(?:\d+\.\d*|\.\d+))(?:[dD]|\*\^)([+-]?\d+)(?![\w.])")


def readable_text(path: Path, where: str) -> str:
    """An xyz file's text as ase reads it; what was readable is unchanged.

    QM9's own frames become extended xyz with their properties under the names of ``load_qm9``, energies in eV. Raises
    ValueError with the file and the line: for a frame that is too short or begins with something else than its number of
    atoms, unknown symbols, deuterium and tritium, coordinates that are no numbers, and text that is not UTF-8.
    """
    lines = _decoded(path.read_bytes(), f"{where}: {path}").rstrip().split("\n")
    found, start, before = [], 0, ""
    while start < len(lines):
        if lines[start].strip():
            frame, stop = _frame(lines, start, f"{where}: {path}", before)
            before = f" The frame before begins on line {start + 1} and says that {lines[start].strip()} atoms follow."
            found += frame
            start = stop
        else:
            start += 1
    return "\n".join([*found, ""])


def _decoded(content: bytes, where: str) -> str:
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{where}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _frame(lines: list[str], start: int, where: str, before: str) -> tuple[list[str], int]:
    """The lines of the frame that begins at an index, and the index after it."""
    try:
        count = int(lines[start])
    except ValueError:
        raise ValueError(
            f"{where}, line {start + 1}: expected the number of atoms of a frame, got {lines[start][:60]!r}.{before}"
        ) from None
    first, stop = start + 2, start + 2 + max(count, 0)
    if count and stop > len(lines):
        raise ValueError(
            f"{where}, line {start + 1} says that {count} atoms follow, but after its comment the file ends with "
            f"{max(len(lines) - first, 0)} lines: is it truncated?"
        )
    comment, atoms = "".join(lines[start + 1 : first]), lines[first:stop]
    if _QM9_COMMENT.fullmatch(comment):
        return _qm9_frame(lines, start, stop, where)
    while stop < len(lines) and lines[stop].lstrip().startswith("VEC"):  # ase reads the cells of ADF
        stop += 1
    columns = _columns(comment)
    atoms = [_atom(line, columns, f"{where}, line {first + 1 + i}") for i, line in enumerate(atoms)]
    comment = _EXPONENT_IN_TEXT.sub(r"\1E\2", comment)
    return [lines[start], comment, *atoms, *lines[first + len(atoms) : stop]], stop


def _qm9_frame(lines: list[str], start: int, stop: int, where: str) -> tuple[list[str], int]:
    """A frame of QM9's own files: after the atoms come the frequencies, SMILES and InChI, twice each."""
    from ase.units import Hartree

    if len(lines) < stop + 3 or not lines[stop + 2].startswith("InChI="):
        raise ValueError(
            f"{where}, line {stop + 1}: expected QM9's three lines after the atoms (frequencies, SMILES, InChI). Is the file "
            "truncated?"
        )
    _, index, *values = lines[start + 1].split()
    try:
        numbers = {name: plain_float(text) for name, text in zip(QM9_ENTRIES, values, strict=True)}
    except ValueError as error:
        raise ValueError(f"{where}, line {start + 2}: {error}") from None
    for name in QM9_ENERGIES:
        numbers[name] *= Hartree
    columns = _columns("")
    atoms = [_atom(line, columns, f"{where}, line {start + 3 + i}") for i, line in enumerate(lines[start + 2 : stop])]
    comment = " ".join([f"Properties={_DEFAULT_COLUMNS} gdb={index}", *(f"{k}={v!r}" for k, v in numbers.items())])
    return [lines[start], comment, *atoms], stop + 3


def _columns(comment: str) -> list[Callable[[str], str]]:
    """What reads each column of an atom's line; what ``Properties`` should be is left to ase."""
    match = re.search(r'Properties="?([^\s"]+)', comment)
    fields = (match[1] if match else _DEFAULT_COLUMNS).split(":")
    columns: list[Callable[[str], str]] = []
    for name, kind, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        reader = _symbol if name == "species" else _number if kind == "R" else _as_it_is
        columns += [reader] * (int(width) if width.isdecimal() else 0)
    return columns


def _atom(line: str, columns: list[Callable[[str], str]], where: str) -> str:
    entries = line.split()
    if len(entries) < len(columns):
        raise ValueError(f"{where}: expected an atom with {len(columns)} columns, got {line[:60]!r}.")
    try:
        read = [reader(text) for reader, text in zip(columns, entries, strict=False)]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return line if read == entries[: len(read)] else " ".join([*read, *entries[len(read) :]])


def element_number(text: str) -> int:
    """The atomic number of a symbol, in any case, or of a number's text; ValueError for what is no element."""
    if text.capitalize() in SYMBOLS:
        return SYMBOLS.index(text.capitalize())
    if text.isdecimal() and int(text) < len(SYMBOLS):
        return int(text)
    if text.upper() in _ISOTOPES:
        raise ValueError(
            f"{text!r} is {_ISOTOPES[text.upper()]}, for which ase has no symbol. Write H: only the charges of nuclei count "
            "here."
        )
    raise ValueError(
        f"{text!r} is neither the symbol of a chemical element, as 'Cl', nor an atomic number. Labels such as 'C1' are not "
        "read."
    )


def plain_float(text: str) -> float:
    """The number, whatever its exponent is written with; ValueError for what is no number."""
    try:
        return float(text)
    except ValueError:
        match = _EXPONENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number; numbers are like -0.5, 1.2e-3, 1.2D-3 or 1.2*^-3.")
    return float(f"{match[1]}E{match[2]}")


def _symbol(text: str) -> str:
    number = element_number(text)
    return SYMBOLS[number] if text.isdecimal() else text


def _number(text: str) -> str:
    value = plain_float(text)
    return repr(value) if _EXPONENT.fullmatch(text) else text


def _as_it_is(text: str) -> str:
    return text
