"""Keep a formula in a line together with the comma or full stop after it.

A browser may break a line behind any picture, and MathJax draws a formula as one.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class KeptTogether(SphinxPostTransform):
    """Wrap a formula and what follows it without a space into one piece."""

    default_priority = 500

    def run(self, **unused: Any) -> None:
        for formula in list(self.document.findall(nodes.math)):
            text = formula.next_node(descend=False, siblings=True)
            if not isinstance(text, nodes.Text):
                continue
            behind = re.match(r"[,.;:!?)]+", text)
            if behind is None:
                continue
            parent = formula.parent
            parent.replace(text, nodes.Text(text[behind.end() :]))
            piece = nodes.inline("", "", classes=["kept-together"])
            parent.replace(formula, piece)
            piece += [formula, nodes.Text(behind[0])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it with Sphinx."""
    app.add_post_transform(KeptTogether)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
