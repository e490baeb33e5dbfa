"""examples/new_group.py, as a module."""

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("new_group", Path(__file__).parents[2] / "examples" / "new_group.py")
assert _SPEC is not None
assert _SPEC.loader is not None
new_group = sys.modules["new_group"] = importlib.util.module_from_spec(_SPEC)  # where dataclasses look for annotations
_SPEC.loader.exec_module(new_group)
