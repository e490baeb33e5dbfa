"""What mkdocs is told beyond mkdocs.yml: pages made of other files, MathJax in the site, links out of docs/.

Pages under docs/ that are Python files become Markdown with their stored outputs (.ci/tutorials.py); examples, measurements,
the changelog and CONTRIBUTING become pages. Nothing that a page shows comes by the network.
"""

import ast
import importlib.util
import logging
import os
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / ".ci"))
import tutorials  # noqa: E402

LOG = logging.getLogger("mkdocs.hooks.site")
#: Files at the top that are pages of the site.
COPIES = {"benchmarks/RESULTS.md": "results.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def mathjax() -> str:
    """The file of MathJax with all its extensions and shapes of letters, from the package that carries it."""
    found = importlib.util.find_spec("mathjax")
    if found is None:
        raise FileNotFoundError("MathJax: install the extra docs, which has django-static-mathjax.")
    return str(Path(found.submodule_search_locations[0]) / "static" / "mathjax" / "es5" / "tex-svg-full.js")


def example_page(path: Path) -> str:
    """An example: what it says of itself, how it is called, its source."""
    source = path.read_text()
    said = ast.get_docstring(ast.parse(source)) or ""
    title, _, rest = said.partition("\n")
    rest = re.sub(r"::\n\n(?=    )", ":\n\n", rest).replace("``", "`").replace("](", "]\\(")
    return f"# {path.name}\n\n{title}\n{rest}\n\n## Source\n\n```python\n{source}```\n"


def gallery() -> str:
    """All pictures of the pages that compute, each a link to its page."""
    blocks = [
        '---\nhide: [navigation, toc]\n---\n\n# Gallery\n\nEvery picture was drawn by the page it links to.\n\n<div class="gallery" markdown>\n'
    ]
    for page in tutorials.pages():
        title = next(line for line in tutorials.cells_of(page)[0].source.split("\n") if line.startswith("# "))[2:]
        target = page.relative_to(tutorials.DOCS).with_suffix(".md")
        for name in tutorials.stored(page)[1]:
            blocks.append(f"[![{title}](pictures/made/{name})]({target})\n\n{title}\n{{: .caption }}\n")
    return "\n".join(
        ["\n".join(f"<div markdown>\n\n{b}\n</div>" if k else b for k, b in enumerate(blocks)), "</div>\n"]
    )


def on_files(files, config):
    """Add what is made."""
    made = {str(page.relative_to(tutorials.DOCS).with_suffix(".md")): page for page in tutorials.pages()}
    for name, page in made.items():
        text, fresh = tutorials.markdown(page)
        if not fresh:
            LOG.warning("%s was changed and not run: python .ci/tutorials.py %s", page.name, page.stem)
        files.append(File.generated(config, name, content=text))
    for path in sorted((ROOT / "examples").glob("*.py")):
        files.append(File.generated(config, f"examples/{path.stem}.md", content=example_page(path)))
    for source, name in COPIES.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    files.append(File.generated(config, "gallery.md", content=gallery()))
    files.append(File.generated(config, "assets/mathjax.js", abs_src_path=mathjax()))
    return files


def on_page_markdown(text, page, config, files):
    """Links to files outside docs/ become links to their pages."""
    here = Path(page.file.src_uri).parent

    def link(match: re.Match) -> str:
        target = match[1]
        if (found := re.search(r"examples/(\w+)\.py$", target)) and "../" in target:
            wanted = f"examples/{found[1]}.md"
        else:
            wanted = next((page for source, page in COPIES.items() if target.endswith(source) and target != page), None)
        if wanted is None and page.file.src_uri in COPIES.values() and target.startswith("docs/"):
            wanted = target.removeprefix("docs/")
        return f"]({os.path.relpath(wanted, here)})" if wanted else match[0]

    return re.sub(r"\]\(([^)\s]+)\)", link, text)
