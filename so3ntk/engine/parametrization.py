r"""How weights and biases enter the kernels of a linear layer, in the NTK and in the standard parametrisation.

For a linear layer with input kernels K, Theta and fan-in ``n``, and A the average over its support,

.. math:: K \leftarrow W^2 A K + b^2, \qquad \Theta \leftarrow g_W A K + g_b + W^2 A \Theta,

where (g_W, g_b) = (W^2, b^2) in the NTK parametrisation (weights W w / sqrt(n), w ~ N(0, 1)) and (n, 1) in the
standard one (weights w ~ N(0, W^2 / n), as neural-tangents' ``parameterization="standard"``). The fan-in is the number
of channels; for windows on images times their pixels and, after lifting, times the elements of the group. Filters of
global support are white noise in a basis that is orthonormal for the measure normalised to one; its size is not counted.
Source: Sohl-Dickstein et al., On the infinite width limit of neural networks with a standard parameterization (2020).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Scales(NamedTuple):
    """W^2, b^2, g_W and g_b of the formula; b^2 and g_b are None without a bias."""

    weight: Any
    bias: Any
    weight_gain: Any
    bias_gain: Any

    @classmethod
    def of(cls, where: str, W_std, b_std, parametrization: str, fan_in: int | None) -> Scales:
        """The scales of one layer. ValueError if the standard parametrisation meets an unknown input width.

        TypeError and ValueError for standard deviations that are no numbers, or whose squares no float holds.
        """
        check_std(where, "W_std", W_std)
        if b_std is not None:
            check_std(where, "b_std", b_std)
        weight, bias = _square(W_std), None if b_std is None else _square(b_std)
        if parametrization == "ntk":
            return cls(weight, bias, weight, bias)
        if fan_in is None:
            raise ValueError(
                f'{where}: the NTK of parametrization="standard" depends on the width of the layer before, which is '
                "None. Give that layer a width."
            )
        return cls(weight, bias, fan_in, None if b_std is None else 1.0)


def _square(std: Any) -> Any:
    """Of NumPy's scalars and arrays as a number of Python, which takes the dtype of the kernel instead of promoting it."""
    return (std.item() if isinstance(std, np.generic | np.ndarray) else std) ** 2


def check_std(where: str, name: str, std: Any) -> None:
    """TypeError or ValueError for a standard deviation that is no number, or whose square no float of its kind holds.

    Values of JAX may be traced, so theirs are not looked at.
    """
    if isinstance(std, bool | str) or std is None or np.ndim(std) > 0:
        raise TypeError(f"{where}: expected {name} to be a number, a standard deviation, got {std!r}.")
    if isinstance(std, int | float | np.integer | np.floating):
        float_of_its_kind = np.finfo(std.dtype if isinstance(std, np.floating) else np.float64)
        least, most = float(float_of_its_kind.tiny) ** 0.5, float(float_of_its_kind.max) ** 0.5
        if not (std == 0 or least <= abs(std) <= most):
            raise ValueError(
                f"{where}: expected {name} to be 0 or of a size between {least:.1e} and {most:.1e}, as kernels hold its "
                f"square, got {std!r}. Values near 1 are usual."
            )


def check_parametrization(where: str, parametrization: str, width: int | None) -> str:
    """The name, if it is known and the width it needs is there; else ValueError."""
    if parametrization not in ("ntk", "standard"):
        raise ValueError(f"{where}: expected parametrization 'ntk' or 'standard', got {parametrization!r}.")
    if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < 1):
        raise ValueError(f"{where}: expected width to be a positive integer or None, got {width!r}.")
    if parametrization == "standard" and width is None:
        raise ValueError(
            f'{where}: parametrization="standard" needs a width: its NTK grows with it. Give width=, or use "ntk".'
        )
    return parametrization


def weights_of(
    where: str, width: int | None, W_std: Any, b_std: Any, parametrization: str
) -> tuple[Any, Any, Any, str]:
    """The four as they are, for the constructor of a layer. ValueError as from ``check_parametrization``.

    The deviations may be traced, and are checked where they are used.
    """
    return width, W_std, b_std, check_parametrization(where, parametrization, width)
