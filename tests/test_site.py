"""The site's reference has every public name, each with a docstring; what its pages print is of the code they show."""

import importlib.util
import inspect
import re
from pathlib import Path

import planar
import so3ntk
from so3ntk.learning import distillation

ROOT = Path(__file__).parents[1]
MODULES = {
    "so3ntk": so3ntk,
    "planar": planar,
    "planar.datasets": planar.datasets,
    "so3ntk.learning.distillation": distillation,
    **{
        f"so3ntk.{name}": getattr(so3ntk, name)
        for name in (
            "empirical", "hyperparameters", "molecules", "plots", "predict", "saving", "solvers", "spectra", "testing", "training",
        )
    },
}  # fmt: skip


def names_of(module) -> list[str]:
    """What a module offers: ``__all__``, or what it defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return getattr(module, "__all__", [name for name in own if not name.startswith("_")])


def public() -> dict[str, object]:
    """All public objects by their first name; modules and second names of one object are left out."""
    found: dict[str, object] = {}
    seen: list[object] = []
    for prefix, module in MODULES.items():
        for name in names_of(module):
            value = getattr(module, name)
            if not inspect.ismodule(value) and not any(value is other for other in seen):
                found[f"{prefix}.{name}"] = value
                seen.append(value)
    return found


def reference() -> list[str]:
    """The entries of the site's reference."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    return [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)]


def test_the_reference_has_every_public_name():
    entries = reference()
    assert len(entries) == len(set(entries))
    missing = set(public()) - set(entries)
    assert not missing, f"add to docs/reference: {sorted(missing)}"
    for entry in entries:  # no entry is of a name that is gone
        module, name = entry.rsplit(".", 1)
        if not module.startswith("so3ntk.interop"):  # which need their libraries
            assert name in names_of(MODULES[module]), entry


def test_every_public_name_has_a_docstring():
    without = [name for name, value in public().items() if not isinstance(value, dict) and not inspect.getdoc(value)]
    assert not without


def test_methods_have_docstrings():
    without = [
        f"{name}.{key}"
        for name, value in public().items()
        if inspect.isclass(value)
        for key, member in vars(value).items()
        if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property | classmethod))
        if not inspect.getdoc(getattr(value, key))
    ]
    assert not without


def test_pages_that_compute_were_run_as_they_are():
    spec = importlib.util.spec_from_file_location("tutorials", ROOT / ".ci" / "tutorials.py")
    tutorials = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tutorials)
    pages = tutorials.pages()
    assert pages
    for page in pages:
        text, fresh = tutorials.markdown(page)
        assert fresh, f"{page.name} was changed and not run: python .ci/tutorials.py {page.stem}"
        for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
            assert (page.parent / picture).exists()
