"""Measure a training step while the work grows: wider layers first, larger batches then.

    python -m benchmarks.growth                # some five minutes

It is `python -m benchmarks` with the workloads, contestants and seconds below, and with `results/growth`
for the files; its options may follow and replace these. `chart` and `findings` are what the page shows.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import __main__ as command
from benchmarks.contestants.registry import OTHER, OURS
from benchmarks.outcomes import Outcome, Results
from benchmarks.tables import digits, seconds
from benchmarks.workloads import BATCHES, WIDTHS, WORKLOADS, Workload

FOLDER = Path(__file__).parent / "results" / "growth"
SECONDS = 0.5
RATE = "floor-rate"

_BLUE, _LIGHT, _RED, _ORANGE = "#0072B2", "#56B4E9", "#D55E00", "#E69F00"
LINES = {
    "anyprop-numpy-loop": (_BLUE, "-", "o"),
    "anyprop-numpy-compiled-numba": (_BLUE, ":", "o"),
    "anyprop-jax-loop": (_LIGHT, "-", "o"),
    "jax-jit": (_RED, "-", "s"),
    "jax-scan": (_ORANGE, "-", "s"),
    "torch": ("#CC79A7", "-", "s"),
    "sklearn": ("#009E73", "-", "s"),
    "floor-products": ("black", "--", ""),
    RATE: ("black", ":", ""),
}
"""Colour, line and marker of each contestant."""

ROWS = {"width of the layers, and operations": WIDTHS, "rows of a batch, and operations": BATCHES}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and return the exit code of `python -m benchmarks`.

    Parameters
    ----------
    argv : sequence of str, optional
        Options of `python -m benchmarks`; the process's own arguments by default.

    Returns
    -------
    int
        As there.
    """
    words = [*WIDTHS, *BATCHES, "--only", ",".join(LINES), "--seconds", f"{SECONDS}"]
    return command.main([*words, "--out", str(FOLDER), *(sys.argv[1:] if argv is None else argv)])


def chart(results: Results) -> Any:
    """Draw times of a step over the work, and beside them their ratios to the machine's rate.

    Parameters
    ----------
    results : Results
        A run's.

    Returns
    -------
    matplotlib.figure.Figure
        A row of two panels for wider layers, and one for larger batches.
    """
    figures: Any = importlib.import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(7.2, 7.6), layout="constrained")
    panels = figure.subplots(2, 2)
    for row, (title, names) in zip(panels, ROWS.items(), strict=True):
        outcomes: list[Any] = [results[name] for name in names]
        for axes, relative in zip(row, (False, True), strict=True):
            for name, (colour, line, marker) in LINES.items():
                _draw(axes, outcomes, name, relative, color=colour, linestyle=line, marker=marker)
            axes.set(xscale="log", yscale="log", xlabel=title)
            axes.set_title("as multiples of the machine's rate" if relative else "time of a step")
            works = [WORKLOADS[name] for name in names]
            axes.set_xticks(
                [work.operations for work in works],
                [_shown(work, by_batch=names is BATCHES) for work in works],
                fontsize="small",
            )
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(
                (lambda y, _: f"{y:g}") if relative else (lambda y, _: _power(y))
            )
    lines = panels[0, 0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _draw(axes: Any, outcomes: list[Outcome], name: str, relative: bool, **style: object) -> None:
    points = [
        (
            WORKLOADS[outcome.name].operations,
            outcome.timings[name].median / (outcome.timings[RATE].median if relative else 1.0),
        )
        for outcome in outcomes
        if name in outcome.timings
    ]
    if points:
        label = outcomes[0].entries[name].label
        axes.plot(*zip(*points, strict=True), label=label, markersize=4, linewidth=1.3, **style)


def _shown(work: Workload, *, by_batch: bool) -> str:
    """Return the size of a network, and below it the operations of its step."""
    size = work.batch_size if by_batch else work.sizes[1]
    factor, unit = (1e-6, "M") if work.operations < 1e9 else (1e-9, "G")
    return f"{size}\n{digits(work.operations * factor)} {unit}"


def _power(value: float) -> str:
    number, unit = seconds(value).replace("us", "µs").split()
    return f"{float(number):g} {unit}"


class Duel(NamedTuple):
    """The fastest anyprop and the fastest other library at one workload.

    Parameters
    ----------
    title : str
        The network and its batch.
    ours, other : str
        Their labels.
    ratio : float
        Our median to theirs.
    level : bool
        Whether the middle halves of their turns overlap.
    distance : float
        Our median to the time at the machine's rate.
    """

    title: str
    ours: str
    other: str
    ratio: float
    level: bool
    distance: float


def duels(results: Results) -> list[Duel]:
    """Return who is fastest at each workload, on both sides."""
    found = []
    for outcome in results.outcomes:
        timings, (ours, other) = outcome.timings, (_fastest(outcome, s) for s in (OURS, OTHER))
        a, b = timings[ours], timings[other]
        found.append(
            Duel(
                outcome.title.removeprefix("A step of "),
                outcome.entries[ours].label,
                outcome.entries[other].label,
                a.median / b.median,
                a.q1 <= b.q3 and b.q1 <= a.q3,
                a.median / timings[RATE].median,
            )
        )
    return found


def _fastest(outcome: Outcome, side: str) -> str:
    names = [name for name in outcome.timings if outcome.entries[name].side == side]
    return min(names, key=lambda name: outcome.timings[name].median)


def findings(results: Results) -> str:
    """Write where anyprop is ahead, where behind, and how far from the machine's rate.

    Parameters
    ----------
    results : Results
        A run's.

    Returns
    -------
    str
        One paragraph.
    """
    fought = duels(results)
    ahead = sorted((d for d in fought if d.ratio < 1 and not d.level), key=lambda d: d.ratio)
    behind = sorted((d for d in fought if d.ratio > 1 and not d.level), key=lambda d: -d.ratio)
    level = [d for d in fought if d.level]
    sentences = [
        f"Of these {len(fought)} networks and batches, the fastest anyprop is ahead of the fastest "
        f"other at {len(ahead)}, behind it at {len(behind)}, and at {len(level)} their middle halves "
        "overlap."
    ]
    for where, them in (("ahead", ahead), ("behind", behind)):
        if them:
            first, places = them[0], "; ".join(d.title for d in them)
            most = ", where" if len(them) == 1 else "; most at the first, where"
            sentences.append(
                f"It is {where} at {places}{most} {first.ours} takes {digits(first.ratio)} "
                f"times as long as {first.other}."
            )
    near, far = (of(fought, key=lambda d: d.distance) for of in (min, max))
    sentences.append(
        f"Its step takes {digits(near.distance)} times as long as its operations at the machine's "
        f"rate at {near.title}, and {digits(far.distance)} times as long at {far.title}."
    )
    return " ".join(sentences)


if __name__ == "__main__":
    sys.exit(main())
