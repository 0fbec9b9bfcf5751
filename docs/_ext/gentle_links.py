"""Public names in single backticks inside docstrings link to their page.

Most words in single backticks are parameters; whatever is not a public name stays as code.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

import anyprop


class Gentle(SphinxRole):
    """The default role."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        code = nodes.literal(self.text, self.text, classes=["xref", "py", "py-obj"])
        target = f"anyprop.{self.text}" if self.text in anyprop.__all__ else self.text
        if not target.startswith("anyprop."):
            return [code], []
        reference = pending_xref(
            "", code, refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname
        )
        reference["gentle"] = True
        return [reference], []


def leave_as_code(app: Sphinx, env: Any, node: pending_xref, contnode: nodes.Node) -> Any:
    """Resolve a link to a name without a page to its own text."""
    return contnode if node.get("gentle") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role."""
    app.add_role("gentle", Gentle())
    app.connect("missing-reference", leave_as_code)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
