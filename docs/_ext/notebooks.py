"""Pages as notebooks: `notebook_pages` in conf.py says which, and what each of them needs.

A notebook has the text and the code of its page, without outputs. It is made while the page is read,
with the values of `{value}` as they came out, is written beside the page, and the page links to it.

    {run}          a code cell; its source is folded where the page hides it, and what it prints is
                   shown as Markdown where the page does so
    {doctest}      code cells, one for each output
    other modules  of this folder's pages, written by a cell, so that the notebook needs no other file
"""

from __future__ import annotations

import ast
import doctest
import json
import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.code import LiteralInclude, LiteralIncludeReader

FENCE = re.compile(r"( *)```\{(\w+)\} ?([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
ROLE = re.compile(r"\{([\w:]+)\}(`+)(.+?)\2", re.DOTALL)
SETUP = "import numpy as np\nimport anyprop as ap"


def cell(kind: str, source: str, **metadata: Any) -> dict[str, Any]:
    """Make a cell."""
    made: dict[str, Any] = {"cell_type": kind, "metadata": metadata, "source": source}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


class Notebook:
    """The cells of a page, from top to bottom."""

    def __init__(self, app: Sphinx, page: Path, needs: str, values: list[tuple[str, str]]) -> None:
        self.app, self.page, self.values = app, page, iter(values)
        self.numbers: dict[str, int] = {}
        self.needs = needs
        self.cells: list[dict[str, Any]] = []

    def read(self, text: str) -> None:
        """Turn the text of a page into cells."""
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
        for label in re.findall(r"^ *\$\$ \((\w+)\)$", text, re.MULTILINE):
            self.numbers[label] = len(self.numbers) + 1
        title, _, text = text.partition("\n\n")
        self.text(f"{title}\n\n*A page of anyprop's documentation. To run it: {self.needs}*")
        if "```{doctest}" in text:
            self.code(SETUP)
        end = 0
        for found in FENCE.finditer(text):
            if found[2] in ("run", "doctest"):
                self.text(text[end : found.start()])
                getattr(self, found[2])(*options_of(found[4]))
                end = found.end()
        self.text(text[end:])
        self.bring_modules()

    def text(self, text: str) -> None:
        """Add a cell of text in the Markdown that notebooks know."""
        text = FENCE.sub(self.other_block, text)
        text = ROLE.sub(self.role, text)
        text = re.sub(r"^( *):::+\{dropdown\} (.*)$", r"\1**\2**\n", text, flags=re.MULTILINE)
        text = re.sub(r"^ *:::+$\n?|^\([\w-]+\)=$\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"^( *)\$\$ \((\w+)\)$", self.tag, text, flags=re.MULTILINE)
        text = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)
        if text.strip():
            self.cells.append(cell("markdown", text.strip()))

    def code(self, code: str, **metadata: Any) -> None:
        """Add a cell of code."""
        if code.strip():
            self.cells.append(cell("code", code.strip(), **metadata))

    def run(self, options: dict[str, Any], code: str) -> None:
        hidden = {"jupyter": {"source_hidden": True}} if "hide-code" in options else {}
        if "plt." in code or "panels(" in code:
            # A notebook shows pyplot's figures by itself; this one would come twice.
            code = re.sub(r"\nfigure\s*\Z", ";", code)
        if "markdown" in options:
            self.code(f"%%capture printed\n{code.strip()}", **hidden)
            shown = "from IPython.display import Markdown\n\nMarkdown(printed.stdout)"
            self.code(shown, **hidden)
        else:
            self.code(code, **hidden)

    def doctest(self, options: dict[str, Any], code: str) -> None:
        pending = ""
        for example in doctest.DocTestParser().get_examples(code):
            pending += example.source
            if example.want:
                fails = {"tags": ["raises-exception"]} if example.exc_msg is not None else {}
                self.code(pending, **fails)
                pending = ""
        self.code(pending)

    def other_block(self, found: re.Match[str]) -> str:
        """Include what a block includes; leave out what only a site has."""
        options, content = options_of(found[4])
        if found[2] != "literalinclude":
            return "" if found[2] == "footbibliography" else content
        options = {key: LiteralInclude.option_spec[key](value) for key, value in options.items()}
        file = (self.page.parent / found[3]).resolve()
        lines, _ = LiteralIncludeReader(str(file), options, self.app.config).read()
        return f"```{options.get('language', '')}\n{lines.strip()}\n```"

    def role(self, found: re.Match[str]) -> str:
        name, text = found[1], found[3]
        title = re.sub(r"\s*<[^>]*>\Z", "", text)
        if name == "value":
            expression, value = next(self.values)
            assert expression == text, f"{expression} is not {text}"
            return value
        if name == "eq":
            return f"({self.numbers[text]})"
        if "cite" in name:
            author, year = re.fullmatch(r"([a-z]+)(\d{4})\w?", text).groups()  # type: ignore[union-attr]
            return (
                f"{author.title()} ({year})" if name.endswith("t") else f"({author.title()} {year})"
            )
        if name in ("doc", "playground", "ref"):
            return title
        return f"`{title.rpartition('.')[2] if title.startswith('~') else title}`"

    def tag(self, found: re.Match[str]) -> str:
        return rf"{found[1]}\tag{{{self.numbers[found[2]]}}}" + f"\n{found[1]}$$"

    def bring_modules(self) -> None:
        """Add a cell at the top that writes the modules that code cells import from beside the pages."""
        codes = [c["source"] for c in self.cells if c["cell_type"] == "code"]
        trees = [ast.parse(re.sub(r"\A%%.*\n", "", code)) for code in codes]
        imported = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        for name in sorted({node.module or "" for node in imported}):
            file = Path(self.app.srcdir) / "derivations" / f"{name}.py"
            if file.is_file():
                source = f"%%writefile {file.name}\n{file.read_text(encoding='utf-8').strip()}"
                self.cells.insert(1, cell("code", source, jupyter={"source_hidden": True}))

    def to_json(self) -> str:
        for number, made in enumerate(self.cells):
            made["id"] = f"cell-{number}"
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
        content = {"cells": self.cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def options_of(content: str) -> tuple[dict[str, Any], str]:
    """Split a block into its options and the rest."""
    options = {}
    lines = content.split("\n")
    while lines and (found := re.match(r" *:([\w-]+): ?(.*)", lines[0])):
        options[found[1]] = yaml.safe_load(found[2]) if found[2][:1] == '"' else found[2]
        lines.pop(0)
    return options, "\n".join(lines)


def keep_source(app: Sphinx, page: str, source: list[str]) -> None:
    """Remember the text of a page."""
    if page in app.config.notebook_pages:
        app.env.temp_data["notebook_source"] = source[0]


def make(app: Sphinx, doctree: nodes.document) -> None:
    """Make the notebook of a page that has been read, and link to it under the title."""
    page = app.env.docname
    if page not in app.config.notebook_pages:
        return
    values = app.env.temp_data.get("run_values", [])
    path = Path(app.env.doc2path(page))
    notebook = Notebook(app, path, app.config.notebook_pages[page], values)
    notebook.read(app.env.temp_data["notebook_source"])
    kept(app.env)[page] = notebook.to_json()
    name = f"{path.stem}.ipynb"
    link = f'<p class="notebook"><a href="{name}" download>This page as a notebook</a></p>'
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", link, format="html"))


def kept(env: Any) -> dict[str, str]:
    """Return the notebooks of the pages that have been read, now or in an earlier build."""
    if not hasattr(env, "notebooks"):
        env.notebooks = {}
    made: dict[str, str] = env.notebooks
    return made


def purge(app: Sphinx, env: Any, page: str) -> None:
    """Forget a page that is read anew."""
    kept(env).pop(page, None)


def merge(app: Sphinx, env: Any, pages: Any, other: Any) -> None:
    """Take over what another process has read."""
    kept(env).update({page: text for page, text in kept(other).items() if page in pages})


def write(app: Sphinx, error: Exception | None) -> None:
    """Write the notebooks beside their pages."""
    if error is None and app.builder.format == "html":
        for page, text in kept(app.env).items():
            (Path(app.outdir) / f"{page}.ipynb").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it with Sphinx."""
    app.add_config_value("notebook_pages", {}, "env", dict)
    app.connect("source-read", keep_source)
    app.connect("doctree-read", make)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
