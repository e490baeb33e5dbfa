"""xyz files as programs write them: read, or refused with the file, the line and what is wrong there."""

import codecs
import re

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule as g2
from ase.units import Hartree

from so3ntk.molecules import environments, load_qm9, read_forces, read_molecules
from so3ntk.molecules.datasets import qm9, xyz
from so3ntk.molecules.datasets.data import read_structures

#: The first file of QM9, with one coordinate of the second as Mathematica writes it.
QM9 = """5
gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 2.765748*^-4\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 0.133923
1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""
WATER = ["O 0 0 0.119", "H 0 0.763 -0.477", "H 0 -0.763 -0.477"]
POSITIONS = np.array([[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])


def frame(lines=WATER, comment="energy=-76.5", count=None):
    return "\n".join([str(len(lines) if count is None else count), comment, *lines, ""])


def read(tmp_path, content, name="m.xyz"):
    content = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(content)
    return read_structures(tmp_path / name)


def swapped(*changes):
    lines = list(WATER)
    for row, line in changes:
        lines[row] = line
    return frame(lines)


@pytest.mark.parametrize(
    "content",
    [
        frame(["8 0 0 0.119", "1 0 0.763 -0.477", "1 0 -0.763 -0.477"]),
        frame(["8 0 0 0.119", "1 0 0.763 -0.477", "1 0 -0.763 -0.477"], "Properties=species:S:1:pos:R:3 energy=-76.5"),
        frame(["o 0 0 .119", "h 0 0.763 -0.477", "H 0 -0.763 -0.477"]),
        frame(["O 0.0D+00 0 1.19D-1", "H 0 7.63d-01 -4.77E-1", "H 0 -763.D-3 -4.77*^-1"]),
        codecs.BOM_UTF8 + frame().encode(),
        frame().encode("utf-16"),
        frame().replace("\n", "\r\n"),
        frame().replace("\n", "\r"),
        "\n" + frame() + "\n\n",
        frame(comment="energy=-7.65D+01"),
        frame(comment="energy=-765.0*^-1"),
        frame(["0 O 1.19D-1 0 0", "1 H -4.77D-1 0.763 0", "2 H -4.77D-1 -0.763 0"],
              "Properties=tag:S:1:species:S:1:pos:R:3 energy=-76.5"),
    ],
)  # fmt: skip
def test_what_is_read(tmp_path, content):
    for name in ("m.xyz", "m.XYZ", "m.extxyz"):
        (found,) = read(tmp_path, content, name)
        assert found.get_chemical_symbols() == ["O", "H", "H"]
        columns = [2, 1, 0] if "tag" in str(content) else [0, 1, 2]
        np.testing.assert_array_equal(found.positions[:, columns], POSITIONS)
        np.testing.assert_array_equal(read_molecules(tmp_path / name).targets, [-76.5])


def test_blank_lines_between_frames(tmp_path):
    """ase stops at the first and says nothing."""
    assert len(read(tmp_path, frame() + "\n\n" + frame() + frame())) == 3


def test_files_of_ase_are_not_touched(tmp_path):
    frames = [g2(name) for name in ("HCN", "CH3CH2OH")] + [Atoms("X", [[0.1, 0, 0]])]
    frames[1].info |= {"label": "1.5D3x", "name": "a 2D3 b", "table": [1.5, 2.5]}
    frames[1].set_cell(5 * np.eye(3))
    frames[1].arrays["tags"] = np.arange(9)
    ase.io.write(tmp_path / "m.xyz", frames, format="extxyz")
    text = (tmp_path / "m.xyz").read_text()
    assert xyz.readable_text(tmp_path / "m.xyz", "test") == text
    assert read(tmp_path, text) == frames


def test_exponents_of_forces_and_cells(tmp_path):
    comment = 'Lattice="1.0D+01 0 0 0 10 0 0 0 1.0D1" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5D0'
    (tmp_path / "m.xyz").write_text(frame([f"{line} 1.0D-3 -2.5d0 3" for line in WATER], comment))
    data = read_forces(tmp_path / "m.xyz")
    np.testing.assert_array_equal(data.forces[0], np.tile([1e-3, -2.5, 3], (3, 1)))
    np.testing.assert_array_equal(data.atoms[0].cell.lengths(), 10)
    assert data.energies.tolist() == [-1.5]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (swapped((1, "D 0 0.763 -0.477")), 4, "'D' is deuterium, for which ase has no symbol. Write H"),
        (swapped((2, "t 0 0.763 -0.477")), 5, "'t' is tritium"),
        (swapped((0, "O1 0 0 0.1")), 3, "'O1' is neither the symbol of a chemical element, as 'Cl', nor an atomic number"),
        (swapped((0, "119 0 0 0.1")), 3, "'119' is neither"),
        (swapped((0, "O 0 0 0,1")), 3, "'0,1' is not a number; numbers are like -0.5, 1.2e-3, 1.2D-3"),
        (swapped((0, "O 0 0 ********")), 3, "'********' is not a number"),
        (swapped((0, "O 0 0 1.2*^")), 3, "'1.2*^' is not a number"),
        (swapped((1, "H 0 0.763")), 4, "expected an atom with 4 columns, got 'H 0 0.763'"),
        (swapped((1, "")), 4, "expected an atom with 4 columns, got ''"),
        (frame(count=4), 1, "says that 4 atoms follow, but after its comment the file ends with 3 lines: is it truncated?"),
        (frame() + "3\n", 6, "says that 3 atoms follow, but after its comment the file ends with 0 lines"),
        (frame(count=2), 5, "expected the number of atoms of a frame, got 'H 0 -0.763 -0.477'. The frame before begins on "
                            "line 1 and says that 2 atoms follow."),
        ("three\n\nO 0 0 0\n", 1, "expected the number of atoms of a frame, got 'three'."),
        (frame() + swapped((1, "D 0 0.763 -0.477")), 9, "'D' is deuterium"),
        ("\n\n" + swapped((1, "D 0 0.763 -0.477")), 6, "'D' is deuterium"),
        (frame(comment="caf\xe9").encode("latin-1"), 2, "the byte 0xe9 is not UTF-8. Save the file as UTF-8."),
        (QM9[: QM9.index("InChI")], 8, "expected QM9's three lines after the atoms"),
        (2 * QM9[: QM9.index("1341.307")], 8, "expected QM9's three lines after the atoms"),
        (QM9 + QM9.replace("13.21", "x"), 12, "'x' is not a number"),
        (QM9.replace("-0.0126981359", "1.0*^^2"), 3, "'1.0*^^2' is not a number"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, content, line, message):
    with pytest.raises(ValueError, match=re.escape(f"read_molecules: {tmp_path / 'm.xyz'}, line {line}")) as error:
        read(tmp_path, content)
    assert message in str(error.value)


def test_remedies_are_read(tmp_path):
    """H for D, a label taken away, UTF-8: what messages tell to do."""
    (heavy,) = read(tmp_path, swapped((1, "D 0 0.763 -0.477")).replace("D", "H"))
    assert environments(heavy).numbers.tolist() == [8, 1, 1]
    assert len(read(tmp_path, swapped((0, "O1 0 0 0.119")).replace("O1", "O"))) == 1
    assert len(read(tmp_path, frame(comment="caf\xe9").encode("utf-8"))) == 1


def test_files_of_qm9(tmp_path):
    both = QM9 + QM9.replace("gdb 1\t", "gdb 7\t").replace("-40.47893", "-4047.893*^-2").replace("13.21", "14.5")
    (tmp_path / "m.xyz").write_text(both)
    data = load_qm9(path=tmp_path / "m.xyz", target="U0")
    np.testing.assert_allclose(data.targets, -40.47893 * Hartree, rtol=1e-15)
    assert (data.unit, [atoms.info["gdb"] for atoms in data.atoms]) == ("eV", [1, 7])
    for atoms in data.atoms:
        assert atoms.get_chemical_symbols() == ["C", "H", "H", "H", "H"]
        assert atoms.positions[2].tolist() == [1.0117308433, 1.4637511618, 0.0002765748]
    alpha = load_qm9(path=tmp_path / "m.xyz", target="alpha")
    assert (alpha.targets.tolist(), alpha.unit) == ([13.21, 14.5], "Bohr^3")
    entries = QM9.splitlines()[1].split()[2:]
    for name, text in zip(xyz.QM9_ENTRIES, entries, strict=True):
        found = read_molecules(tmp_path / "m.xyz", name)[0].targets
        assert found == pytest.approx([float(text) * (Hartree if name in xyz.QM9_ENERGIES else 1)], rel=1e-15)


def test_names_of_qm9_are_those_of_load_qm9():
    assert set(xyz.QM9_ENTRIES) - {"A", "B", "C"} == set(qm9.TARGETS)
    assert set(xyz.QM9_ENERGIES) == {name for name, (_, unit) in qm9.TARGETS.items() if unit == "eV"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        ("-1.0D-3", -1e-3),
        ("1d+02", 100),
        (".5D1", 5),
        ("1.*^2", 100),
        ("1.23*^-5", 1.23e-5),
        ("+2E3", 2e3),
    ],
)
def test_numbers(text, value):
    assert xyz.plain_float(text) == value


@pytest.mark.parametrize("text", ["", "D", "1.0D", "1.0-103", "1,5", "1.0*10^3", "1.0D-3D", "--1"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a number")):
        xyz.plain_float(text)
