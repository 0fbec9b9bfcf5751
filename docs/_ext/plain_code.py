"""Code on the pages is shown without comments for a type checker or a linter."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def without_pragmas(app: Sphinx, doctree: nodes.document) -> None:
    """Remove `# type: ignore` and `# noqa` from all blocks of code."""
    for block in doctree.findall(nodes.literal_block):
        text = re.sub(r"  # (?:type: ignore|noqa).*", "", block.astext())
        if text != block.astext():
            block.rawsource = text
            block.children = [nodes.Text(text)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it with Sphinx."""
    app.connect("doctree-read", without_pragmas)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
