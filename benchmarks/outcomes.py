"""The outcome of a run, as in results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from anyprop._files import write_whole
from benchmarks.contestants.registry import OURS
from benchmarks.measuring import Timing

NOT_RUN, FAILED = "not run", "failed"


class Entry(NamedTuple):
    """A contestant at a workload.

    Parameters
    ----------
    label : str
        Its name in tables.
    side : {"anyprop", "other", "floor"}
        Whose it is.
    timing : Timing, optional
        Seconds for a step; None for one that was not measured.
    first_call : float, optional
        Seconds of the first call, which compiles.
    peak_memory : int, optional
        Most memory of its process, in bytes.
    difference : float, optional
        Largest relative difference from the reference's numbers.
    status : {"", "not run", "failed"}
        Why it has no timing.
    reason : str
        The same in words.
    """

    label: str
    side: str
    timing: Timing | None = None
    first_call: float | None = None
    peak_memory: int | None = None
    difference: float | None = None
    status: str = ""
    reason: str = ""


class Outcome(NamedTuple):
    """All contestants at a workload.

    Parameters
    ----------
    name, title, unit : str
        The workload's name, its title, and what is counted: step, update or epoch.
    tolerance : float
        Largest difference from the reference that was allowed.
    entries : dict of str to Entry
        Each contestant's.
    """

    name: str
    title: str
    unit: str
    tolerance: float
    entries: dict[str, Entry]

    @property
    def timings(self) -> dict[str, Timing]:
        """The timings of those that were measured."""
        return {name: entry.timing for name, entry in self.entries.items() if entry.timing}

    @property
    def baseline(self) -> str | None:
        """What ratios refer to: the fastest anyprop, or the fastest of all; None if none ran."""
        timings = self.timings
        ours = [name for name in timings if self.entries[name].side == OURS]
        return min(ours or timings, key=lambda name: timings[name].median, default=None)


class Results(NamedTuple):
    """A whole run.

    Parameters
    ----------
    about : dict
        Date, command, device, machine, threads and versions.
    outcomes : list of Outcome
        One for each workload.
    """

    about: dict[str, Any]
    outcomes: list[Outcome]

    def __getitem__(self, name: Any) -> Any:
        return {outcome.name: outcome for outcome in self.outcomes}[name]

    def save(self, path: Path) -> None:
        """Write results.json."""
        content = {
            **self.about,
            "workloads": [
                {
                    **outcome._asdict(),
                    "entries": {name: _to_dict(entry) for name, entry in outcome.entries.items()},
                }
                for outcome in self.outcomes
            ],
        }
        write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        about = json.loads(path.read_text(encoding="utf-8"))
        outcomes = [
            Outcome(
                **{
                    **workload,
                    "entries": {n: _from_dict(entry) for n, entry in workload["entries"].items()},
                }
            )
            for workload in about.pop("workloads")
        ]
        return cls(about, outcomes)


def _to_dict(entry: Entry) -> dict[str, Any]:
    content = {k: v for k, v in entry._asdict().items() if v not in (None, "")}
    return content | ({"timing": entry.timing._asdict()} if entry.timing else {})


def _from_dict(content: dict[str, Any]) -> Entry:
    timing = content.get("timing")
    return Entry(**{**content, "timing": Timing(**timing) if timing else None})
