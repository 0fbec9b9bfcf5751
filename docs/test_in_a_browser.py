"""The built site in headless Chromium: nothing overflows, code fits, search leads to derivations."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.playground.conftest import chromium

__all__ = ["chromium"]  # a fixture, of the whole session

SITE = Path(__file__).parent.parent / "build" / "docs"
FOLDERS = ["", "derivations", "derivations/*", "how-to", "ja/**", "start"]
PAGES = sorted(page for folder in FOLDERS for page in SITE.glob(f"{folder}/*.html".lstrip("/")))
CODE = ["start/first-training", "start/from-the-book", "derivations/optimizers/rmsprop"]

SETTLED = """
    await (globalThis.MathJax?.startup?.promise ?? Promise.resolve());
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
"""

FOUND = """
    const found = () => [...document.querySelectorAll("#search-results li > a")];
    for (let i = 0; i < 100 && !found().length; i++)
        await new Promise((done) => setTimeout(done, 50));
    return found().map((link) => [link.textContent, link.href]);
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SITE)))
def test_no_page_scrolls_sideways_on_a_phone(page, chromium):
    chromium.visit(page.as_uri(), width=390, height=844)
    script = """
        const boxes = [document.documentElement, ...document.querySelectorAll(
            ".bd-article-container, .bd-article, .prev-next-area")];
        return boxes.filter((box) => box.scrollWidth > box.clientWidth + 1)
            .map((box) => `${box.className}: ${box.scrollWidth} of ${box.clientWidth}`);
    """
    assert chromium.evaluate(SETTLED + script) == []


@pytest.mark.parametrize("page", CODE)
def test_code_fits_beside_the_sidebars(page, chromium):
    chromium.visit((SITE / f"{page}.html").as_uri(), width=1280)
    script = """
        return [...document.querySelectorAll(".highlight-python pre, .highlight-default pre")]
            .filter((block) => block.scrollWidth > block.clientWidth + 1)
            .map((block) => block.textContent.split("\\n").sort((a, b) => b.length - a.length)[0]);
    """
    assert chromium.evaluate(SETTLED + script) == []


@pytest.mark.parametrize("name", ["rmsprop", "adam", "affine", "softmaxcrossentropy"])
def test_search_leads_to_the_derivation(name, chromium):
    chromium.visit((SITE / "search.html").as_uri() + f"?q={name}")
    title, address = chromium.evaluate(FOUND)[0]
    assert "/docs/derivations/" in address
    assert title.lower() == f"{name}, derived"


@pytest.mark.parametrize("words", ["減衰率", "学習率", "誤差 平方根"])
def test_japanese_words_lead_to_japanese_pages(words, chromium):
    chromium.visit((SITE / "search.html").as_uri() + f"?q={quote(words)}")
    found = chromium.evaluate(FOUND)
    assert found
    assert all("/docs/ja/" in address for _, address in found)
