"""A bar chart of results: one panel for each workload, the fastest at the top."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from anyprop.benchmark.contestants.registry import FLOOR, OURS
from anyprop.benchmark.results import Outcome, Results
from anyprop.benchmark.tables import ranked, seconds

_OURS, _OTHER, _TEXT, _FLOOR = "#0072B2", "#C9CED6", "#24292F", "#D55E00"
_BAR, _FRAME = 0.27, 0.75  # heights in inches: of a bar with its gap, and of what surrounds a panel


def chart(results: Results, names: Sequence[str] | None = None, *, columns: int = 2) -> Any:
    """Draw the medians as bars, a line through each from the first to the third quartile.

    Parameters
    ----------
    results : Results
        A run's.
    names : sequence of str, optional
        Workloads to draw; all that were measured by default.
    columns : int >= 1
        Panels side by side.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, with a white background.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        figures: Any = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ImportError('chart needs matplotlib; run pip install "anyprop[cli]".') from None
    outcomes = [o for o in results.outcomes if o.timings and (names is None or o.name in names)]
    columns = min(columns, len(outcomes))
    rows = [outcomes[i : i + columns] for i in range(0, len(outcomes), columns)]
    heights = [_FRAME + _BAR * max(len(_bars(outcome)) for outcome in row) for row in rows]
    figure = figures.Figure(
        figsize=(5.6 * columns, sum(heights)), layout="constrained", facecolor="white"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for panels, row in zip(axes, rows, strict=True):
        for panel, outcome in zip(panels, row, strict=False):
            _draw(panel, outcome)
        for panel in panels[len(row) :]:
            panel.set_visible(False)
    return figure


def _bars(outcome: Outcome) -> list[Any]:
    return [entry for entry in ranked(outcome) if entry.side != FLOOR]


def _draw(axes: Any, outcome: Outcome) -> None:
    entries = _bars(outcome)
    medians = [entry.timing.median for entry in entries]
    # A bar much longer than the others would press these to nothing: it is cut, its number stays.
    limit = 6.0 * sorted(medians)[(len(medians) - 1) // 2]
    widths = [min(median, limit) for median in medians]
    largest = max(widths)
    for y, (entry, width) in enumerate(zip(entries, widths, strict=True)):
        ours = entry.side == OURS
        axes.barh(y, width, height=0.72, color=_OURS if ours else _OTHER)
        if width < limit:
            quartiles = [entry.timing.q1, min(entry.timing.q3, largest)]
            axes.plot(quartiles, [y, y], color=_TEXT, linewidth=1.1)
        text = seconds(entry.timing.median).replace("us", "µs")
        cut = "" if width < limit else "  (cut)"
        axes.annotate(
            text + cut,
            (max(width, min(entry.timing.q3, largest)), y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=_TEXT,
            fontsize=9,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries], fontsize=9)
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        label.set_color(_OURS if entry.side == OURS else _TEXT)
    axes.invert_yaxis()
    for entry in ranked(outcome):
        if entry.side == FLOOR and entry.timing is not None:
            _draw_floor(axes, entry.timing.median, entry.label)
    axes.set_xlim(0, 1.2 * largest)
    axes.set_title(outcome.title, loc="left", fontsize=10, fontweight="bold", color=_TEXT)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])


def _draw_floor(axes: Any, at: float, label: str) -> None:
    axes.axvline(at, color=_FLOOR, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{label.removeprefix('floor: ')}: {seconds(at).replace('us', 'µs')}",
        (at, 0.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -3),
        textcoords="offset points",
        va="top",
        color=_FLOOR,
        fontsize=8.5,
    )
