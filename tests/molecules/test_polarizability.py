"""The anisotropy of polarisability tensors: of known shapes, and of files that do not fit the molecules."""

import numpy as np
import pytest

from so3ntk.molecules.datasets.polarizability import FILE, anisotropies

ROWS = """XYZ_file,A_xx,A_xy,A_yy,A_xz,A_yz,A_zz
"dsgdb9nsd_000001.xyz",13.211,0.000,13.211,0.000,0.000,13.211
"dsgdb9nsd_000004.xyz",10.491,0.000,10.491,0.000,0.000,27.863
"dsgdb9nsd_000008.xyz",18.471,0.911,16.937,0.001,0.000,15.506
"""


def test_methane_acetylene_and_methanol(tmp_path):
    (tmp_path / FILE).write_text(ROWS)
    found = anisotropies(tmp_path, np.array([4, 1, 8]), np.array([16.28, 13.21, 16.97]))
    np.testing.assert_allclose(found[:2], [27.863 - 10.491, 0], atol=1e-12)
    a, b, c = np.linalg.eigvalsh([[18.471, 0.911, 0.001], [0.911, 16.937, 0], [0.001, 0, 15.506]])
    np.testing.assert_allclose(found[2], np.sqrt(((a - b) ** 2 + (b - c) ** 2 + (c - a) ** 2) / 2))


@pytest.mark.parametrize(
    ("rows", "message"),
    [(ROWS.replace("_000004", "_000005"), "the first is 4"), (ROWS.replace("27.863", "x"), "cannot parse"),
     (ROWS.replace("27.863", "28.9"), "different molecules")],
)  # fmt: skip
def test_refused(tmp_path, rows, message):
    (tmp_path / FILE).write_text(rows)
    with pytest.raises(ValueError, match=message):
        anisotropies(tmp_path, np.array([4]), np.array([16.28]))
    with pytest.raises(FileNotFoundError, match=FILE):
        anisotropies(tmp_path / "nowhere", np.array([4]), np.array([16.28]))
