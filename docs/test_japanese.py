"""A Japanese page says what the English one says: its blocks, formulas, values and numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent
SITE = DOCS.parent / "build" / "docs"
PAGES = [page.relative_to(DOCS / "ja").as_posix() for page in sorted((DOCS / "ja").rglob("*.md"))]

BLOCK = re.compile(r"^( *)(`{3,})\{(\w+)\}.*?^\1\2 *$", re.DOTALL | re.MULTILINE)
SHARED = {"run", "doctest", "literalinclude"}
ROLE = r"\{[\w:]+\}`[^`]*`"
NUMERAL = re.compile(r"(?<![A-Za-z0-9_.])\d+(?:[.,]\d+)*")
WORDS = {"hundred": "100", "fifty": "50", "sixty": "60", "twenty": "20", "million": "100"}  # 100 万


def sections(text: str) -> list[str]:
    """Return what is under each heading, the heading with it."""
    whole = BLOCK.sub(lambda block: block[0].replace("\n#", "\n "), text)
    return re.split(r"^(?=#+ )", whole, flags=re.MULTILINE)[1:]


def heading(section: str) -> int:
    return len(re.match("#+", section)[0])


def kinds(section: str) -> list[str]:
    found = (block[3] for block in BLOCK.finditer(section))
    return ["same" if kind in SHARED else kind for kind in found]


def prose(section: str) -> str:
    """Return a section without its blocks, but with what is in tables."""
    return BLOCK.sub(lambda block: block[0].strip("`") if block[3] == "table" else "", section)


def displays(section: str) -> list[str]:
    """Return its displayed formulas without words and without the full stops of sentences."""
    found = re.findall(r"\$\$(.*?)\$\$", prose(section), re.DOTALL)
    return [re.sub(r"\\text\{[^}]*\}|\s[.,:](?=\s|$)|\s", "", formula) for formula in found]


def values(section: str) -> list[str]:
    return sorted(re.findall(r"\{value\}`(.*?)`", prose(section)))


def formulas(section: str) -> set[str]:
    text = re.sub(r"\$\$.*?\$\$", "", prose(section), flags=re.DOTALL)
    return {" ".join(found.split()) for found in re.findall(r"\$([^$]+)\$", text)}


def code(section: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", re.sub(ROLE, "", prose(section))))


def numerals(section: str) -> set[str]:
    """Return the numbers in its sentences; those in the book's section numbers are no part of them."""
    text = prose(section)
    for pattern in (
        r"\$\$.*?\$\$",
        ROLE,
        r"`[^`]*`",
        r"\$[^$]*\$",
        r"\]\([^)]*\)",
        r"^ *\d+\. ",
        r"（\d\.\d 節）",
        r"^\(.*\)=$",
    ):
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    spelled = {number for word, number in WORDS.items() if re.search(word, text, re.IGNORECASE)}
    return set(NUMERAL.findall(text)) | spelled


def large(number: str) -> bool:
    """Return whether a number is more than a count, which English has in words: "twelve"."""
    return not (number.isdigit() and int(number) <= 12)


def differences(english: str, japanese: str) -> list[str]:
    """Return what one page has and the other lacks."""
    pairs = list(zip(sections(english), sections(japanese), strict=False))
    found = []
    if [heading(s) for s in sections(english)] != [heading(s) for s in sections(japanese)]:
        found.append("headings")
    for ours, theirs in pairs:
        title = ours.splitlines()[0]
        for part in (kinds, displays, values):
            if part(ours) != part(theirs):
                found.append(f"{title}: {part.__name__} {part(ours)}, in Japanese {part(theirs)}")
        for part in (formulas, code, numerals):
            if lost := part(ours) - part(theirs):
                found.append(f"{title}: {part.__name__} {lost} are missing in Japanese")
        if added := set(filter(large, numerals(theirs) - numerals(ours))):
            found.append(f"{title}: numerals {added} are in Japanese only")
    return found


def test_there_are_japanese_pages():
    assert len(PAGES) >= 4


@pytest.mark.parametrize("page", PAGES)
def test_a_japanese_page_has_the_blocks_and_numbers_of_the_english_one(page):
    english, japanese = ((DOCS / folder / page).read_text("utf-8") for folder in (".", "ja"))
    assert not differences(english, japanese)


ENGLISH = """# T
A hundred steps at 0.5: {value}`x`, $y$, `z`.

```{run}
x = 1
```

$$
a .
$$
"""
JAPANESE = """# T
0.5 で 100 回、{value}`x`、$y$、`z`。

```{same}
```

$$
a
$$
"""


@pytest.mark.parametrize(
    "part", ["0.5", "100", "{value}`x`", "$y$", "`z`", "```{same}\n```", "\na\n"]
)
def test_a_difference_is_seen(part):
    assert not differences(ENGLISH, JAPANESE)
    assert differences(ENGLISH, JAPANESE.replace(part, "\n", 1))


@pytest.mark.parametrize("page", PAGES)
def test_both_pages_say_their_language_and_link_to_the_other(page):
    name = page.replace(".md", ".html")
    pages = {"en": SITE / name, "ja": SITE / "ja" / name}
    for language, other in (("en", "ja"), ("ja", "en")):
        text = pages[language].read_text(encoding="utf-8")
        assert re.search(f'<html[^>]* lang="{language}"', text)
        link = re.search(r'<a class="other-language" href="([^"]*)" lang="(\w\w)"', text)
        assert link[2] == other
        assert (pages[language].parent / link[1]).resolve() == pages[other].resolve()


@pytest.mark.parametrize("page", PAGES)
def test_no_space_parts_two_sentences(page):
    text = (SITE / "ja" / page.replace(".md", ".html")).read_text(encoding="utf-8")
    article = text.partition("<article")[2].partition("</article>")[0]
    assert "。" in article
    assert not re.findall(r"[^\n]{,10}[。、]\s+[^<\s].{,10}", article)
    assert not re.findall(r".{,10}[。、] +\S.{,10}", re.sub(r"<[^>]*>", "", article))


def test_japanese_is_found_by_pairs_of_characters():
    from japanese import EnglishAndJapanese

    split = EnglishAndJapanese({}).split
    assert split("the learning rate is 学習率") == ["the", "learning", "rate", "is", "学習", "習率"]
    assert split("RMSPropの勾配、和") == ["RMSProp", "の勾", "勾配", "和"]
    script = (SITE / "_static" / "language_data.js").read_text(encoding="utf-8")
    assert "function splitQuery" in script
