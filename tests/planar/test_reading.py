"""What image layers say of arrays that are no batch of images they can read, and that what they advise is read."""

import re

import jax
import numpy as np
import pytest

import planar
from so3ntk import Flatten
from so3ntk.engine.layers import GroupPool
from so3ntk.engine.network import serial

WIDE = np.zeros((2, 4, 6, 3))


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_rectangles_are_not_mapped_to_themselves(group):
    message = f"4 x 6 pixels: the quarter turns of {group} map only squares to themselves. Crop or pad them, or use"
    with pytest.raises(ValueError, match=re.escape(message)):
        planar.Lift((3, 3), group=group).arrays(WIDE)
    with pytest.raises(ValueError, match=re.escape(message)):
        serial(planar.Lift((3, 3), group=group, width=2), GroupPool()).init_fn(jax.random.key(0), WIDE.shape)


def test_remedies():
    lift = planar.Lift((3, 3), group="C4")
    for group in ("C1", "C2"):
        assert planar.Lift((3, 3), group=group).arrays(WIDE).shape == WIDE.shape
    for cropped in (WIDE[:, :, :4], np.pad(WIDE, ((0, 0), (1, 1), (0, 0), (0, 0)))):
        assert lift.arrays(cropped).shape[1] == lift.arrays(cropped).shape[2]
    with pytest.raises(ValueError, match=re.escape("add the axis, images[..., None]; for one image images[None].")):
        lift.arrays(np.zeros((2, 4, 4)))
    assert lift.arrays(np.zeros((2, 4, 4))[..., None]).shape == (2, 4, 4, 1)
    assert lift.arrays(np.zeros((4, 4, 3))[None]).shape == (1, 4, 4, 3)
    with pytest.raises(ValueError, match=re.escape("got ndarray (2, 4, 6, 3). Images go to planar.Flatten.")):
        Flatten().arrays(WIDE)
    assert planar.Flatten().arrays(WIDE).shape == (2, 72)
    with pytest.raises(ValueError, match=re.escape("Of one vector pass x[None].")):
        Flatten().arrays(np.zeros(3))
    assert Flatten().arrays(np.zeros(3)[None]).shape == (1, 3)
