"""Japanese pages: `ja/PAGE.md` says what `PAGE.md` says, with its blocks.

    ```{same}
    :alt: what the figure shows, in Japanese, if it has one
    half-life = 半減期
    ```

is the next block of the English page (`{run}`, `{doctest}` or `{literalinclude}`), so that code and
numbers cannot differ. Its lines put Japanese words for English ones in the tables and figures that the
block makes. Each block of the English page has its place, in the same order; anything else fails the
build.

Every page that is there in both languages links to the other, and `lang` says which it is.
"""

from __future__ import annotations

import gettext
import html
import posixpath
import re
from pathlib import Path
from typing import Any, ClassVar

import pydata_sphinx_theme
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^( *)(`{3,})\{(?:run|doctest|literalinclude)\}.*?^\1\2 *$", re.DOTALL | re.MULTILINE
)
SPOKEN = "\u3005\u3041-\u30ff\u3400-\u9fff"  # 々, kana, kanji
WIDE = f"{SPOKEN}\u3000-\u303f\uff00-\uff60"  # with the marks that are as wide


def blocks_of(docname: str) -> list[str]:
    """Return the blocks of a page, in their order, each without its indentation."""
    text = (DOCS / f"{docname}.md").read_text(encoding="utf-8")
    found = []
    for block in BLOCK.finditer(text):
        lines = [line.removeprefix(block[1]) for line in block[0].splitlines()]
        kind, brace, path = lines[0].partition("{literalinclude} ")
        if brace:  # "/": from the folder of the documentation, wherever the page is
            lines[0] = f"{kind}{brace}/{posixpath.join(posixpath.dirname(docname), path)}"
        found.append("\n".join(lines))
    return found


class Same(SphinxDirective):
    """The next block of the English page, with its words in Japanese."""

    has_content = True
    option_spec: ClassVar = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        english = self.env.docname.removeprefix("ja/")
        self.env.note_dependency(str(DOCS / f"{english}.md"))
        blocks = blocks_of(english)
        taken = self.env.temp_data.setdefault("same_blocks", [])
        if len(taken) == len(blocks):
            raise self.error(f"{english}.md has no more than {len(blocks)} blocks.")
        block = blocks[len(taken)]
        taken.append(block)
        if ("\n:alt:" in block) != ("alt" in self.options):
            raise self.error("a block needs :alt: where the English one has it, and only there.")
        words = dict(line.split(" = ") for line in self.content if line)
        for word in words.items():
            if len({tuple(re.findall(r"\d", of)) for of in word}) != 1:
                raise self.error(f"{' = '.join(word)}: the digits of both should be the same.")
        result = self.parse_text_to_nodes(block)
        if unused := set(words) - translate(result, words, self.options.get("alt")):
            raise self.error(f"not in what the block prints or draws: {', '.join(unused)}.")
        return result


def translate(parsed: list[nodes.Node], words: dict[str, str], alt: str | None) -> set[str]:
    """Put the Japanese words into tables and figures; return the English ones that were there."""
    used = set()
    label = f'aria-label="{html.escape(alt or "")}"'

    def put(text: str) -> str:
        for word in sorted(words, key=len, reverse=True):
            if word in text:
                used.add(word)
                text = text.replace(word, words[word])
        return text

    for node in parsed:
        for text in list(node.findall(nodes.Text)):
            if isinstance(text.parent, nodes.raw):
                drawn = re.sub(r"(?<=>)[^<>]+(?=</text>)", lambda found: put(found[0]), text)
                drawn = re.sub(r'aria-label="[^"]*"', lambda found: label, drawn, count=1)
                text.parent.replace(text, nodes.Text(drawn))
            elif not isinstance(text.parent, nodes.math | nodes.literal_block):
                text.parent.replace(text, nodes.Text(put(text)))
    return used


def finish(app: Sphinx, doctree: nodes.document) -> None:
    """See that no block is left over, and join lines where a space would part two words."""
    docname = app.env.docname
    if not docname.startswith("ja/"):
        return
    left = len(blocks_of(docname.removeprefix("ja/"))) - len(
        app.env.temp_data.get("same_blocks", [])
    )
    if left:
        message = "%d blocks of the English page have no {same} here."
        logging.getLogger(__name__).warning(message, left, location=docname)
    for text in [text for text in doctree.findall(nodes.Text) if text == "\n"]:
        place = next(i for i, node in enumerate(text.parent.children) if node is text)
        around = "".join(node.astext() for node in text.parent[max(0, place - 1) : place + 2])
        if re.search(f"[{WIDE}]\n|\n[{WIDE}]", around):
            del text.parent[place]


def add_language(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Pass the templates a page's language, and the page that says the same in the other."""
    japanese = pagename.startswith("ja/")
    other = pagename.removeprefix("ja/") if japanese else f"ja/{pagename}"
    context["other_language"] = other if other in app.env.found_docs else None
    if japanese:
        context["language"] = "ja"
        folder = Path(pydata_sphinx_theme.__file__).parent / "locale"
        context["_"] = gettext.translation("sphinx", folder, ["ja"], fallback=True).gettext


class EnglishAndJapanese(SearchEnglish):
    """A search that takes Japanese by pairs of characters, as it has no spaces between its words."""

    js_splitter_code = """
function splitQuery(query) {
  const wide = /[\u3005\u3041-\u30ff\u3400-\u9fff]+|[^\u3005\u3041-\u30ff\u3400-\u9fff]+/gu;
  return query
    .split(/[^\\p{Letter}\\p{Number}_\\p{Emoji_Presentation}]+/gu)
    .flatMap((word) => word.match(wide) ?? [])
    .flatMap((part) =>
      part.length > 2 && /^[\u3005-\u9fff]/u.test(part)
        ? [...part].slice(1).map((_, i) => part.slice(i, i + 2))
        : [part]
    );
}
"""

    def split(self, input: str) -> list[str]:
        """Split into words, and a run of Japanese characters into pairs that overlap."""
        found = []
        for word in super().split(input):
            for japanese, other in re.findall(f"([{SPOKEN}]+)|([^{SPOKEN}]+)", word):
                pairs = [japanese[i : i + 2] for i in range(max(1, len(japanese) - 1))]
                found += [other] if other else pairs
        return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and what looks at finished pages."""
    app.add_directive("same", Same)
    app.add_search_language(EnglishAndJapanese)
    app.connect("doctree-read", finish)
    app.connect("html-page-context", add_language)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
