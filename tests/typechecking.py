"""What checks jaxtyping's annotations while tests run: beartype, to which NumPy's scalars are numbers, and an int a float."""

import functools

import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

NUMBERS = BeartypeHintOverrides({float: float | int | np.floating | np.integer, int: int | np.integer})
CONF = BeartypeConf(hint_overrides=NUMBERS)


def check(function):
    """Checked from the first call on: a process calls a part of thousands of functions, and each check is compiled."""
    checked = None

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal checked
        if checked is None:
            checked = beartype(function, conf=CONF)
        return checked(*args, **kwargs)

    return call
