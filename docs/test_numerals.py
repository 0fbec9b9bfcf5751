"""Numbers in the sentences of the derivations are computed there, or have a reason not to be.

A number that a formula or a run gives is a `{value}`, so that it cannot differ from the formula.
Numbers that may be written by hand are listed in `derivations/numerals.toml` with their reasons,
page by page.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

DERIVATIONS = Path(__file__).parent / "derivations"
PAGES = sorted(DERIVATIONS.rglob("*.md"))
REASONS = tomllib.loads((DERIVATIONS / "numerals.toml").read_text(encoding="utf-8"))

# 0 and 1 are where things start and what they add up to. "Elsewhere" holds other libraries' settings;
# test_costs.py counts what "Cost" says of the optimizers.
PLAIN = {"0", "1"}
SECTIONS = {"Elsewhere", "Cost"}

NOT_PROSE = [
    r"\A---\n.*?^---$",  # what a page says of itself to others
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
    """Return the line and the digits of each number in a sentence."""
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
    text = """---
moved: 5
---
# Title
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
    assert list(numerals(text)) == [(5, "2"), (5, "5"), (5, "2,000"), (5, "2.5"), (15, "10")]


LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
HALF = float(np.finfo(np.float16).smallest_subnormal)

# Results inside formulas, where no {value} can be: page, text there, the value, how far off it may be
RESULTS = [
    ("conventions", r"6.0 \times 10^{-8}", np.finfo(np.float32).eps / 2, 0.01),
    ("conventions", r"3.4 \times 10^{38}", LARGEST, 0.01),
    ("conventions", r"1.4 \times 10^{-45}", SMALLEST, 0.01),
    ("conventions", r"x = 709.8", math.log(np.finfo(float).max), 1e-4),
    ("layers/gelu", r"7 \times 10^{12}", LARGEST ** (1 / 3), 0.01),
    ("layers/gelu", r"43.7", math.sqrt(2 / math.pi) * (10 + 0.044715 * 1000), 2e-3),
    ("layers/sigmoid", r"-88.7", -math.log(LARGEST), 1e-3),
    ("layers/softplus", r"0.693", math.log(2), 1e-3),
    ("layers/softplus", r"3.7 \times 10^{-44}", math.exp(-100), 0.01),
    ("losses/mean_squared_error", r"1.8 \times 10^{19}", math.sqrt(LARGEST), 0.03),
    ("losses/softmax_cross_entropy", r"88.7", math.log(LARGEST), 1e-3),
    ("losses/softmax_cross_entropy", r"16.1", -math.log(1e-7), 2e-3),
    ("optimizers/adadelta", r"1.4 \times 10^{-6}", 0.001 * math.sqrt(1e-7 / 0.05), 0.02),
    ("optimizers/adam", r"3.2\, lr", 0.1 / math.sqrt(0.001), 0.02),
    ("optimizers/adam", r"0.23\, lr", math.sqrt(0.1 / 1.9), 0.01),
    ("optimizers/adam", r"0.053", 0.1 / 1.9, 0.01),
    ("optimizers/adamax", r"1.009\, u_t", 0.1 / (1 - 0.9 / 0.999), 1e-4),
    ("optimizers/adamax", r"7.3\, lr", 0.1 / math.sqrt(0.001 * (1 - 0.81 / 0.999)), 0.01),
    ("optimizers/lion", r"0.23\,lr", math.sqrt(0.1 / 1.9), 0.01),
    ("optimizers/momentum", r"0.71", 0.9**2 + 0.9 - 1, 1e-9),
    ("optimizers/rmsprop", r"2.5 \times 10^{-7}", math.sqrt(1e-7) / 900 - 1e-7, 0.01),
    ("optimizers/rmsprop", r"1.7 \times 10^{-3}", math.sqrt(HALF / 2 / 0.01), 0.02),
]


@pytest.mark.parametrize(("page", "text", "value", "off"), RESULTS)
def test_results_in_formulas(page, text, value, off):
    assert text in (DERIVATIONS / f"{page}.md").read_text(encoding="utf-8")
    digits, power = re.search(r"(-?[\d.]+)(?: \\times 10\^\{(-?\d+)\})?", text).groups()
    assert float(digits) * 10.0 ** int(power or 0) == pytest.approx(value, rel=off)
