"""Links between a derivation, its page in the reference, and the playground.

Each derivation gets a line of links under its first paragraph; `of_classes` passes them to the
reference's template. The role `{playground}` links to a state of the playground, by its address
there:

    {playground}`the two-step cycle <preset=cycle>`
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import ReferenceRole

import anyprop

DOCS = Path(__file__).parent.parent
WORDS = {
    "en": ("Reference: ", "Playground: ", " at work"),
    "ja": ("リファレンス（英語）：", "プレイグラウンド（英語）：", " の動き"),
}


def of_classes() -> dict[str, str]:
    """Return where each public class is derived: RMSProp -> optimizers/rmsprop."""
    found = {}
    for name in anyprop.__all__:
        page = "/".join(getattr(getattr(anyprop, name), "__module__", "").split(".")[1:])
        if (DOCS / "derivations" / f"{page}.md").is_file():
            found[name] = page
    return found


def in_playground(key: str) -> list[str]:
    """List the presets or the optimizers that the playground has; it may lack an optimizer."""
    first = {"preset": "label", "optimizer": "name"}.get(key)
    if first is None:
        return []
    script = DOCS / "_static" / "playground" / f"{key}s.js"
    found = re.findall(
        r"^    (\w+): \{\n      (\w+)", script.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [name for name, field in found if field == first]


def add_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Insert the line of links between a derivation's first paragraph and its first section."""
    english = docname.removeprefix("ja/")
    names = [name for name, page in of_classes().items() if english == f"derivations/{page}"]
    if not names:
        return
    reference, playground, at_work = WORDS["en" if english == docname else "ja"]
    links = [f"{reference}{{py:obj}}`{names[0]} <anyprop.{names[0]}>`"]
    kind, stem = english.split("/")[1:]
    if kind == "optimizers" and stem in in_playground("optimizer"):
        links.append(f"{playground}{{playground}}`{names[0]}{at_work} <optimizer={stem}>`")
    line = "```{container} related\n" + " · ".join(links) + "\n```\n\n"
    before, section, after = source[0].partition("\n## ")
    source[0] = before + "\n" + line + section.lstrip("\n") + after


class Playground(ReferenceRole):
    """Link to the playground with an example or an optimizer chosen."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        key, _, name = self.target.partition("=")
        if name not in in_playground(key):
            message = f"the playground has no {self.target}"
            return [], [self.inliner.reporter.error(message, line=self.lineno)]
        return [
            nodes.reference(self.rawtext, self.title, internal=True, playground=self.target)
        ], []


class Addresses(SphinxPostTransform):
    """Set the addresses of these links, which depend on the page that they are on."""

    default_priority = 5

    def run(self, **unused: Any) -> None:
        for link in self.document.findall(nodes.reference):
            if "playground" in link:
                page = self.app.builder.get_relative_uri(self.env.docname, "playground")
                link["refuri"] = f"{page}#{link['playground']}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role and the links."""
    app.add_role("playground", Playground())
    app.add_post_transform(Addresses)
    app.connect("source-read", add_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
