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


def split_sentences(text: str, arguments: list[str]) -> str:
    """The text with a new line before each argument, and a new paragraph before Raises, Returns and Source."""
    text = re.sub(r"(?<=[.:;])\s+(?=(?:Raises|Returns|Source:|Shapes:)\s)", "\n\n", text)
    if arguments:
        name = "|".join(map(re.escape, arguments))
        text = re.sub(rf"(?<=[.:;]) +(?=(?:{name})(?:, (?:{name}))*: )", "\n", text)
    return text


def with_items(lines: list[str], arguments: list[str]) -> list[str]:
    """Lines ``name: text`` of arguments, or of what is named at the beginning of a sentence, as items of a list."""
    done, in_item, in_formula, ended = [], False, False, True
    for line in lines:
        in_formula ^= line == "$$"
        found = None if in_formula else ITEM.match(line)
        names = found[1].split(", ") if found else []
        if found and found[1] not in SENTENCES and (ended or set(names) <= set(arguments)):
            done += [""] * (not in_item)
            done.append(f"- {', '.join(f'`{name}`' for name in names)}: {found[2]}")
            in_item = True
        else:
            in_item = in_item and bool(line.strip())
            done.append(f"  {line}" if in_item else line)
        ended = not line.strip() or line.rstrip().endswith((".", ":", ";"))
    return done


def to_markdown(text: str, package: str, names: list[str], arguments: list[str]) -> str:
    """The docstring of an object of this package (so3ntk, planar) with these arguments or fields."""
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":(?:class|func|mod|meth):`([^`]+)`", r"``\1``", text)
    text = re.sub(r"::\n\n(?=    )", ":\n\n", text).replace("](", "]\\(")  # a bracket and a parenthesis are no link
    own = [name for name in reversed(names) if name.startswith(package + ".")]
    links = {name.rsplit(".", 1)[-1]: name for name in own} | {name: name for name in names}
    links = {word: name for word, name in links.items() if word not in arguments}
    lines = with_items(with_formulas(split_sentences(text, arguments)), arguments)
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
            held = obj.parameters if obj.is_function else obj.members
            arguments = [getattr(name, "name", name) for name in held]
            obj.docstring.value = to_markdown(obj.docstring.value, obj.package.path, self.names, arguments)
