"""Numbers in the sentences of the derivations are computed there, or have a reason not to be.

A number that a formula or a run gives is a `{value}`, so that it cannot part from the formula. What may
be written by hand is listed in `derivations/numerals.toml` with its reason, page by page.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

DERIVATIONS = Path(__file__).parent / "derivations"
PAGES = sorted(DERIVATIONS.rglob("*.md"))
REASONS = tomllib.loads((DERIVATIONS / "numerals.toml").read_text(encoding="utf-8"))

# 0 and 1 are where things start and what they add up to. "Elsewhere" holds other libraries' settings;
# test_costs.py counts what "Cost" says of the optimizers.
PLAIN = {"0", "1"}
SECTIONS = {"Elsewhere", "Cost"}

NOT_PROSE = [
    r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2 *$",  # blocks
    r"\$\$.*?\$\$",
    r"\{[\w:]+\}`[^`]*`",  # roles, among them {value}
    r"(`+).*?\1",
    r"\$[^$]*\$",
    r"\]\([^)]*\)",  # addresses of links
    r"^ *\d+\. ",  # items of lists
]
NUMERAL = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")


def numerals(text: str) -> Iterator[tuple[int, str]]:
    """Return the line and the digits of each number that stands in a sentence."""
    for pattern in NOT_PROSE:
        blank = lambda found: "\n" * found[0].count("\n")  # noqa: E731
        text = re.sub(pattern, blank, text, flags=re.MULTILINE | re.DOTALL)
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif section not in SECTIONS:
            yield from ((number, digits) for digits in NUMERAL.findall(line) if digits not in PLAIN)


def name_of(page: Path) -> str:
    return page.relative_to(DERIVATIONS).with_suffix("").as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_numbers_in_sentences_are_computed_or_have_a_reason(page):
    found = list(numerals(page.read_text(encoding="utf-8")))
    reasons = REASONS.get(name_of(page), {})
    unexplained = [f"line {line}: {digits}" for line, digits in found if digits not in reasons]
    assert not unexplained, "write them as {value}, or give a reason in numerals.toml"
    assert set(reasons) == {digits for _, digits in found}, "a reason for a number that is gone"
    assert all(reasons.values())


def test_reasons_are_for_pages_that_exist():
    assert set(REASONS) <= {name_of(page) for page in PAGES}


def test_only_sentences_are_looked_at():
    text = """# Title
At 2 the value is {value}`6 * 7`, in $3$ and `4`; [5](6.md#7), 2,000 or 0 and 1, h2, 2.5.

```{run}
8
```

$$
9
$$

1. The first of 10.

## Elsewhere
11
"""
    assert list(numerals(text)) == [(2, "2"), (2, "5"), (2, "2,000"), (2, "2.5"), (12, "10")]
