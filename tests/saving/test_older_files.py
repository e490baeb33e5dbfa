"""Files and stores that an earlier plan of the code wrote (commit 27b583d, jax 0.10.2): they load, and runs go on.

``store.zip`` is a folder with the kernels of ``NET``, one tile of which was marked incomplete afterwards; ``molecules.npz``
and ``images.npz`` are estimators, with the predictions below.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

import planar
import so3ntk
from so3ntk import Dense, Erf, Relu, gram, open_gram, serial
from so3ntk.matrices.store import GramStore
from so3ntk.molecules import environments

OLDER = Path(__file__).parents[1] / "reference" / "older"
IMAGES = (np.arange(6 * 4 * 4) * 5 % 17 - 8).reshape(6, 4, 4, 1) / 8
NET = serial(
    planar.Lift((3, 3), b_std=0.25),
    Relu(),
    planar.GroupConv((3, 3), W_std=1.5),
    Erf(),
    planar.AvgPool((2, 2)),
    planar.GroupPool(),
    Dense(),
)
MOLECULES = [Atoms("H2", [[0, 0, 0], [0, 0, 0.75 + k / 8]]) for k in range(3)]
MOLECULES += [Atoms("OH2", [[0, 0, 0], [1, 0, k / 4], [0, 1, 0]]) for k in range(3)]


@pytest.mark.filterwarnings("ignore:.*new tiles agree with it to rounding")  # other versions of JAX go on with a word
def test_a_store_is_resumed(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    path, computed, writing = tmp_path / "run.zarr", [], GramStore.write
    zipfile.ZipFile(OLDER / "store.zip").extractall(path)
    before = open_gram(path, "nngp")
    assert before.mask.sum() == 5
    assert before.mask.size == 9
    monkeypatch.setattr(GramStore, "write", lambda self, i, j, k: computed.append((i, j)) or writing(self, i, j, k))
    found = gram(NET, IMAGES, get=("nngp", "ntk"), tile=2, store=path, progress=False)
    assert computed == [(2, 1)]
    for name, expected in zip(("nngp", "ntk"), NET.kernel_fn(IMAGES), strict=True):
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-10)
    with pytest.raises(so3ntk.StoreMismatchError, match=r"network\[0\]\.W_std: 1.0 in the store, 2.0 now"):
        gram(serial(planar.Lift((3, 3), b_std=0.25, W_std=2.0), *NET.layers[1:]), IMAGES, get=("nngp", "ntk"), tile=2,
             store=path, progress=False)  # fmt: skip


def test_a_regressor_of_molecules_loads():
    model = so3ntk.load(OLDER / "molecules.npz")
    x = environments(MOLECULES, species=("H", "O"), powers=(1.0,), bandlimit=2)
    expected = [1.68978415, 1.6742664, 1.66393036, 3.34812597, 3.33241575, 3.29147738]
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-7)


def test_a_classifier_of_images_loads():
    model = so3ntk.load(OLDER / "images.npz")
    expected = [0.00043952, 0.0005036, -0.00190311, 0.00177339, 0.00114196, -0.00195536]
    np.testing.assert_allclose(model.decision_function(IMAGES), expected, atol=1e-7)
    np.testing.assert_array_equal(model.predict(IMAGES), [1, 1, 0, 1, 1, 0])
