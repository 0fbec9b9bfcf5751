"""The outcome of a namespace's checks, as a table and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from anyprop._text import printable, table
from anyprop.testing.one_check import FAILED, LACKING, NOT_RUN, PASSED, Outcome

_WIDTH = 100
INTERRUPTED = "it was interrupted."


@dataclass(frozen=True)
class BackendReport:
    """What `check_backend` found; its text is a table.

    Parameters
    ----------
    name, version : str
        The namespace's name and its library's version.
    device : str
        Where it computed; empty for its default.
    reference : str
        The version of NumPy that it was compared with.
    not_run : dict of str to str
        Dtypes that were not checked, and why.
    outcomes : list of Outcome
        The outcome of each check.
    calls : dict of str to dict
        For each function and operator that was used, dtype -> its largest distance from NumPy in
        units in the last place; of sums, in those of the sum of the terms' magnitudes.
    speed : float or None
        Time of a training step relative to NumPy's, roughly; None if it could not be measured.
    """

    name: str
    version: str
    device: str
    reference: str
    not_run: dict[str, str]
    outcomes: list[Outcome]
    calls: dict[str, dict[str, float]]
    speed: float | None

    @property
    def passed(self) -> bool:
        """Whether all checks were run and none failed."""
        return not self.of(FAILED) and not self.of(NOT_RUN)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the checks."""
        return any(outcome.text == INTERRUPTED for outcome in self.of(NOT_RUN))

    def of(self, status: str) -> list[Outcome]:
        """List the outcomes of one status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    def groups(self) -> dict[str, list[Outcome]]:
        """Return the outcomes of each group."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            groups.setdefault(outcome.id.partition("/")[0], []).append(outcome)
        return groups

    def faults(self) -> list[list[Outcome]]:
        """List what failed, grouped where the same call or the same cause is at fault."""
        same: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in self.of(FAILED):
            key = (outcome.call, _kind(outcome)) if outcome.call else ("", _cause(outcome))
            same.setdefault(key, []).append(outcome)
        return list(same.values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {"passed": self.passed, **asdict(self)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> BackendReport:
        """Return the report that `to_dict` wrote."""
        fields = {key: value for key, value in content.items() if key != "passed"}
        return cls(**fields | {"outcomes": [Outcome(**o) for o in content["outcomes"]]})

    def __str__(self) -> str:
        return printable("\n\n".join(self._parts()))

    def _parts(self) -> list[str]:
        name = f"{self.name} {self.version}".strip() + (f" on {self.device}" if self.device else "")
        parts = [f"{name}, beside NumPy {self.reference}"]
        dtypes = [d for d in ("float32", "float64") if d not in self.not_run]
        rows = [
            [group, f"{_count(PASSED, of_group)} of {len(of_group)}", *_furthest(of_group, dtypes)]
            for group, of_group in self.groups().items()
        ]
        parts.append(table(["checks", "passed", *(f"{d} off by" for d in dtypes)], rows))
        parts.append(
            "off by: largest distance from NumPy, in units in the last place of an array's largest "
            "number\n(of 1, if that is larger)"
        )
        parts += [
            _wrapped(f"{dtype} was not checked: {why}") for dtype, why in self.not_run.items()
        ]
        if self.speed is not None:
            parts.append(f"a training step takes about {self.speed:.2g} times as long as NumPy's")
        for outcome in self.of(LACKING):
            lacks = outcome.id.partition("/")[2]
            parts.append(_wrapped(f"lacking, but not needed: arrays that {lacks}. {outcome.text}"))
        parts += [_fault(outcomes) for outcomes in self.faults()]
        for status, head in ((NOT_RUN, "not run"), (PASSED, "passed, but")):
            texts = Counter(_cause(outcome) for outcome in self.of(status) if outcome.text)
            parts += [_wrapped(f"{head} ({n} checks): {text}") for text, n in texts.items()]
        failed, passed, left = (len(self.of(status)) for status in (FAILED, PASSED, NOT_RUN))
        parts.append(
            f"{passed} checks passed, {failed} failed" + (f", {left} not run" if left else "")
        )
        return parts


def _kind(outcome: Outcome) -> str:
    """Return what a fault's sentence begins with: which way a call fails, without its numbers."""
    words = outcome.text.removeprefix(outcome.call).split()
    return " ".join(words[:2])


def _cause(outcome: Outcome) -> str:
    """Return what is wrong, in whatever dtype it was met first."""
    return outcome.text.removeprefix("float32: ").removeprefix("float64: ")


def _count(status: str, outcomes: list[Outcome]) -> int:
    return sum(outcome.status == status for outcome in outcomes)


def _furthest(outcomes: list[Outcome], dtypes: list[str]) -> list[str]:
    found = []
    for dtype in dtypes:
        ulps = [o.ulps[dtype] for o in outcomes if dtype in o.ulps]
        found.append(f"{max(ulps):.3g}" if ulps else "")
    return found


def _fault(outcomes: list[Outcome]) -> str:
    first = next((outcome for outcome in outcomes if outcome.reproducer), outcomes[0])
    ids = ", ".join(outcome.id for outcome in outcomes[:3])
    more = f" and {len(outcomes) - 3} more" if len(outcomes) > 3 else ""
    lines = [f"FAILED {ids}{more}", first.text]
    lines = [*map(_wrapped, lines), textwrap.indent(first.reproducer, "    ")]
    return "\n".join(line for line in lines if line)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False)
