"""What checks jaxtyping's annotations while tests run: beartype, to which NumPy's scalars are numbers, and an int a float."""

import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

NUMBERS = BeartypeHintOverrides({float: float | int | np.floating | np.integer, int: int | np.integer})
check = beartype(conf=BeartypeConf(hint_overrides=NUMBERS))
