"""Warnings that point at the caller's own line, however many functions of ours lie between."""

from __future__ import annotations

import inspect
import warnings

#: What stands between a caller and our functions: ourselves, and what calls them for us (methods, checks of annotations).
PACKAGES = frozenset({"so3ntk", "planar", "equinox", "jaxtyping", "beartype"})


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """``warnings.warn`` at the innermost line that is not in these packages."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in PACKAGES:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
