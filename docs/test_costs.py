"""What the optimizers' pages say about their cost, counted on the rules themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from related import of_classes

import anyprop as ap

DERIVATIONS = Path(__file__).parent / "derivations"
RULES = {page: name for name, page in of_classes().items() if page.startswith("optimizers/")}
WORDS = {"No": 0, "One": 1, "Two": 2, "Three": 3}


class Counted:
    """A number that counts the operations it takes part in."""

    done = 0

    def _count(self, *_: object) -> Counted:
        Counted.done += 1
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _count
    __truediv__ = __rtruediv__ = __gt__ = __lt__ = __ge__ = __le__ = __neg__ = _count


class Functions:
    """A namespace whose functions are one operation each."""

    def __getattr__(self, name: str) -> object:
        return lambda *given, **options: Counted()._count()


def counted(opt: ap.Optimizer) -> int:
    """Return how many operations an update of one number takes, those of scalars left out."""
    slots = [0.0 if first is None else Counted() for first in opt.slots().values()]
    Counted.done = 0
    opt.rule(Functions())(Counted(), Counted(), *slots, **opt.scalars(3, 0.1))
    return Counted.done + type(opt).decoupled  # the decay, which comes before the rule


@pytest.mark.parametrize("page", RULES)
def test_slots_and_numbers_moved(page):
    opt = getattr(ap, RULES[page])()
    slots = sum(first is not None for first in opt.slots().values())
    moved = 3 + 2 * slots  # read p, g and the slots; write p and the slots
    cost = (DERIVATIONS / f"{page}.md").read_text(encoding="utf-8").partition("\n## Cost\n")[2]
    cost = cost.partition("\n## ")[0]
    if page == "optimizers/rmsprop":
        assert f"| plain | {counted(opt)} | {moved}: " in cost
    else:
        assert f"{moved} numbers moved" in cost
        (word,) = re.findall(r"(No|One|Two|Three)\s+(?:slots?|memory)", cost)
        assert WORDS[word] == slots
    index = (DERIVATIONS / "optimizers" / "index.md").read_text(encoding="utf-8")
    stem = page.rpartition("/")[2]
    (row,) = re.findall(rf"^\| \[\w+\]\({stem}\.md\) .*$", index, re.MULTILINE)
    assert f"| {moved} |" in row


@pytest.mark.parametrize(
    "page", [page for page in RULES if page.partition("/")[2] not in {"rmsprop", "rprop"}]
)
def test_flops(page):
    text = (DERIVATIONS / f"{page}.md").read_text(encoding="utf-8")
    cost = text.partition("\n## Cost\n")[2].partition("\n## ")[0]
    said = sum(map(int, re.findall(r"(\d+) (?:flops|more)", cost)))
    assert counted(getattr(ap, RULES[page])()) == said


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("`centered`", {"centered": True}),
        ("`momentum`", {"momentum": 0.9}),
        ("both", {"centered": True, "momentum": 0.9}),
    ],
)
def test_flops_of_rmsprops_options(row, options):
    text = (DERIVATIONS / "optimizers" / "rmsprop.md").read_text(encoding="utf-8")
    assert f"\n| {row} | {counted(ap.RMSProp(**options))} |" in text
