"""Docstrings as Markdown, for the site's reference: formulas, lists of arguments, links between public names.

The docstrings are prose. ``.. math::`` opens a formula; a line ``name: text`` says what an argument is; names in double
backquotes that the reference has become links to it.
"""

import re
from pathlib import Path

import griffe

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
ITEM = re.compile(r"^([A-Za-z]\w*(?:, [A-Za-z]\w*)*): (.+)")
#: Beginnings of sentences that look like arguments and are none.
SENTENCES = ("Source", "Sources", "Shapes", "Shape", "Units", "Cost", "Note", "Returns", "Raises", "Example")


def public_names() -> list[str]:
    """The full names that the pages of the reference have an entry for."""
    pages = sorted(REFERENCE.glob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)]


def formula(lines: list[str]) -> list[str]:
    """A formula of these lines in Markdown; several lines stand below each other, aligned where they say so."""
    text = "\n".join(line.strip() for line in lines if line.strip())
    if "\\\\" in text and "\\begin" not in text:
        text = f"\\begin{{aligned}}\n{text}\n\\end{{aligned}}"
    return ["", "$$", *text.split("\n"), "$$", ""]


def with_formulas(text: str) -> list[str]:
    """The lines, with each ``.. math::`` and what is indented below it replaced by a formula."""
    lines, done = text.split("\n"), []
    while lines:
        line = lines.pop(0)
        if not line.lstrip().startswith(".. math::"):
            done.append(line)
            continue
        indent, found = len(line) - len(line.lstrip()), [line.split("::", 1)[1]]
        while lines and (not lines[0].strip() or len(lines[0]) - len(lines[0].lstrip()) > indent):
            found.append(lines.pop(0))
        done += formula(found)
    return done


def with_items(lines: list[str]) -> list[str]:
    """Lines ``name: text`` as items of a list, sentences that open with one word as paragraphs of their own."""
    done, in_item, in_formula = [], False, False
    for line in lines:
        in_formula ^= line == "$$"
        found = None if in_formula else ITEM.match(line)
        if found and found[1] not in SENTENCES:
            if not in_item:
                done.append("")
            names = ", ".join(f"`{name}`" for name in found[1].split(", "))
            done.append(f"- {names}: {found[2]}")
            in_item = True
        elif (found or re.match(r"(Raises|Returns|[A-Z]\w*Error (for|where|if)) ?", line)) and not in_formula:
            done += ["", line]
            in_item = False
        else:
            in_item = in_item and bool(line.strip())
            done.append(f"  {line}" if in_item else line)
    return done


def to_markdown(text: str, package: str, names: list[str]) -> str:
    """The docstring of an object of this package (so3ntk, planar)."""
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":(?:class|func|mod|meth):`([^`]+)`", r"``\1``", text)
    text = re.sub(r"::\n\n(?=    )", ":\n\n", text).replace("](", "]\\(")  # a bracket and a parenthesis are no link
    links = {name.rsplit(".", 1)[-1]: name for name in names if "." in name and not name.startswith(package)}
    links |= {name.rsplit(".", 1)[-1]: name for name in reversed(names) if "." in name and name.startswith(package)}
    links |= {name: name for name in names}
    lines = with_items(with_formulas(text))
    linked = [
        re.sub(r"``([\w.]+)``", lambda m: f"[`{m[1]}`][{links[m[1]]}]" if m[1] in links else m[0], line)
        if not line.startswith("    ")
        else line
        for line in lines
    ]
    return "\n".join(linked)


class Markdown(griffe.Extension):
    """Every docstring of the packages, once."""

    def __init__(self) -> None:
        self.names = public_names()

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Called for each object after its members are known."""
        if obj.docstring and obj.package.path in ("so3ntk", "planar"):
            obj.docstring.value = to_markdown(obj.docstring.value, obj.package.path, self.names)
