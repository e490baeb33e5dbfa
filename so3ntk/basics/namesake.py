"""Another project on PyPI is called ``planar``, too. An environment that has both has one folder ``planar`` for two packages.

pip writes the files of the one that is installed last over those of the other, without a word. So ``import so3ntk`` looks
whether the other one is installed, and says what to do.
"""

from __future__ import annotations

import importlib.util
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REMEDY = (
    "Give each an environment of its own: here, pip uninstall -y planar, then pip install --force-reinstall --no-deps so3ntk "
    "(from a checkout: pip install --force-reinstall --no-deps -e .)."
)


def planar_is_ours() -> bool:
    """Whether ``import planar`` would find the package that comes with so3ntk. Nothing is imported."""
    spec = importlib.util.find_spec("planar")
    return spec is not None and spec.origin is not None and "so3ntk" in Path(spec.origin).read_text(errors="replace")


def warn_of_namesake() -> None:
    """A warning where the other ``planar`` is installed in this environment."""
    try:
        other = version("planar")
    except PackageNotFoundError:
        return
    found = "so3ntk's, and the other is broken" if planar_is_ours() else "the other one, and planar.Lift is not there"
    warnings.warn(
        f"planar: another project of this name, version {other}, is installed beside so3ntk, whose files share its folder. "
        f"`import planar` is now {found}. {REMEDY}",
        stacklevel=3,
    )


def require_planar(caller: str) -> None:
    """ImportError, with the remedy, where ``import planar`` finds another package than ours, or none."""
    if not planar_is_ours():
        raise ImportError(f"{caller}: `import planar` does not find the package that comes with so3ntk. {REMEDY}")
