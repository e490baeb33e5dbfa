"""The finite groups that act on images about their centre, and their action: the one home of C4's convention.

An element is (quarter turns k, whether the columns are reversed first); the image is turned by ``rot90`` by k in the
plane of its axes (H, W). Rotations about the centre map pixels to pixels for any size; quarter turns map only squares to
themselves, half turns rectangles too.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

#: Elements of each group; the first is the identity.
GROUPS: dict[str, tuple[tuple[int, bool], ...]] = {
    "C1": ((0, False),),
    "C2": ((0, False), (2, False)),
    "C4": tuple((k, False) for k in range(4)),
    "D4": tuple((k, mirrored) for mirrored in (False, True) for k in range(4)),
}


def check_group(group: str, where: str) -> str:
    """The name, if it is one of ``GROUPS``; else ValueError."""
    if group not in GROUPS:
        raise ValueError(f"{where}: expected group to be one of {', '.join(GROUPS)}, got {group!r}.")
    return group


def needs_squares(group: str) -> bool:
    """Whether a quarter turn is among the elements: rectangles would not be mapped to themselves."""
    return any(turns % 2 for turns, _ in GROUPS[group])


def views(image: Num[Array | np.ndarray, "h w c"], group: str) -> Num[Array, "g h w c"]:
    """The image under each element of the group."""
    return jnp.stack([jnp.rot90(image[:, ::-1] if mirrored else image, k) for k, mirrored in GROUPS[group]])
