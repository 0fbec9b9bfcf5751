"""Tables of results: cells for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contestants.registry import OURS
from benchmarks.outcomes import Entry, Outcome, Results

_UNITS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))


def seconds(value: float) -> str:
    """Write a time in three digits.

    Examples
    --------
    >>> seconds(1.234e-5), seconds(0.0345), seconds(4.6), seconds(12.0)
    ('12.3 us', '34.5 ms', '4.60 s', '12.0 s')
    """
    factor, unit = _unit(value)
    return f"{digits(value * factor)} {unit}"


def cells(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Return an outcome as a table, the fastest first and those that were not measured last.

    Parameters
    ----------
    outcome : Outcome
        A workload's.

    Returns
    -------
    header : list of str
        Names of the columns.
    rows : list of lists of str
        A row for each contestant that was measured.
    """
    header = [
        "contestant",
        f"time of {'an' if outcome.unit[0] in 'aeou' else 'a'} {outcome.unit}",
        "middle half",
        "ratio",
        "first call",
        "peak memory",
    ]
    baseline = outcome.timings[outcome.baseline].median if outcome.baseline else 1.0
    return header, [_row(entry, baseline) for entry in ranked(outcome)]


def ranked(outcome: Outcome) -> list[Entry]:
    """List the entries that were measured, the fastest first."""
    timings = outcome.timings
    return [outcome.entries[name] for name in sorted(timings, key=lambda n: timings[n].median)]


def absent(outcome: Outcome) -> list[str]:
    """Return for each contestant that was not measured the reason."""
    return [
        f"{entry.status}: {entry.label} ({entry.reason})"
        for entry in outcome.entries.values()
        if entry.status
    ]


def markdown(outcome: Outcome) -> str:
    """Write an outcome as a table in Markdown, with those that were not measured below it.

    Parameters
    ----------
    outcome : Outcome
        A workload's.

    Returns
    -------
    str
        Text that ends with a newline.
    """
    header, rows = cells(outcome)
    lines = [_line(header), _line(["---"] + ["---:"] * (len(header) - 1))]
    for entry, row in zip(ranked(outcome), rows, strict=True):
        bold = entry.side == OURS
        lines.append(_line([f"**{row[0]}**" if bold else row[0], *row[1:]]))
    missing = absent(outcome)
    if missing:
        text = "; ".join(missing)
        lines += ["", f"{text[0].upper()}{text[1:]}."]
    return "\n".join(lines) + "\n"


def provenance(results: Results) -> str:
    """Write in a sentence or two when and on what the results were measured."""
    about, machine = results.about, results.about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    where = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    warning = " The machine was busy: do not trust these times." if is_busy(machine) else ""
    return (
        f"Measured on {about['date']} on {where}, by `{about['command']}`: {versions}, "
        f"{about['blas']}.{warning}"
    )


def is_busy(machine: Mapping[str, Any]) -> bool:
    """Return whether other programs had more than half of the cores."""
    return bool((machine["load_before"] or 0.0) > machine["cores"] / 2)


def document(results: Results) -> str:
    """Write all outcomes in Markdown, under headings.

    Parameters
    ----------
    results : Results
        A run's.

    Returns
    -------
    str
        Text that ends with a newline.
    """
    parts: list[Any] = [provenance(results) + "\n"]
    parts += [f"## {outcome.title}\n\n{markdown(outcome)}" for outcome in results.outcomes]
    return "\n".join(parts)


def _row(entry: Entry, baseline: float) -> list[str]:
    assert entry.timing is not None
    median, q1, q3, *_ = entry.timing
    factor, unit = _unit(median)
    memory = "" if entry.peak_memory is None else f"{entry.peak_memory / 2**20:,.0f} MiB"
    return [
        entry.label,
        seconds(median),
        f"{digits(q1 * factor)} to {digits(q3 * factor)} {unit}",
        _ratio(median / baseline),
        "" if entry.first_call is None else seconds(entry.first_call),
        memory,
    ]


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def _unit(value: float) -> tuple[float, str]:
    return next((factor, unit) for below, factor, unit in _UNITS if value < below)


def digits(value: float) -> str:
    """Write a number of at least 1 in three digits, and a smaller one with two decimals."""
    return f"{value:.{max(2 - len(str(int(value))) + 1, 0)}f}"


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"
