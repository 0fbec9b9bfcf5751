"""A bar chart of results: one panel for each workload, the fastest at the top."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from benchmarks.contestants.registry import FLOOR, OURS
from benchmarks.outcomes import Outcome, Results
from benchmarks.tables import ranked, seconds

_OURS, _OTHER, _TEXT, _FLOOR = "#0072B2", "#C9CED6", "#24292F", "#D55E00"
_BAR, _FRAME = 0.29, 0.8  # heights in inches: of a bar with its gap, and of what surrounds a panel
_LINE = 0.9  # height of a floor's line of text, in bars
_SIZE = 10.5  # of text, in points
_LONGEST = 2.5  # medians of all contestants; a longer bar would press the others to nothing


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
    counts = [max(len(_bars(outcome)) for outcome in row) for row in rows]
    floors = [max(len(_floors(outcome)) for outcome in row) for row in rows]
    heights = [
        _FRAME + _BAR * (count + _LINE * lines) for count, lines in zip(counts, floors, strict=True)
    ]
    figure = figures.Figure(
        figsize=(6.3 * columns, sum(heights)), layout="constrained", facecolor="white"
    )
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.05)
    panels = figure.subfigures(len(rows), columns, squeeze=False, height_ratios=heights)
    for i, outcome in enumerate(outcomes):
        row = i // columns
        panel, count = panels[row, i % columns], counts[row]
        title = {"fontsize": _SIZE + 1, "fontweight": "bold", "color": _TEXT}
        panel.suptitle(outcome.title, x=0.02, ha="left", **title)
        axes = panel.subplots()
        _draw(axes, outcome)
        axes.set_ylim(count - 0.5 + _LINE * floors[row], -0.5)
    return figure


def _bars(outcome: Outcome) -> list[Any]:
    return [entry for entry in ranked(outcome) if entry.side != FLOOR]


def _floors(outcome: Outcome) -> list[Any]:
    return [entry for entry in ranked(outcome) if entry.side == FLOOR]


def _draw(axes: Any, outcome: Outcome) -> None:
    entries = _bars(outcome)
    medians = [entry.timing.median for entry in entries]
    limit = _LONGEST * sorted(medians)[len(medians) // 2]
    widths = [min(median, limit) for median in medians]
    largest = max(widths)
    for y, (entry, width) in enumerate(zip(entries, widths, strict=True)):
        ours = entry.side == OURS
        axes.barh(y, width, height=0.72, color=_OURS if ours else _OTHER)
        if width < limit:
            quartiles = [entry.timing.q1, min(entry.timing.q3, largest)]
            axes.plot(quartiles, [y, y], color=_TEXT, linewidth=1.1)
        text = seconds(entry.timing.median).replace("us", "µs")
        cut = "" if width < limit else "  (bar cut)"
        axes.annotate(
            text + cut,
            (max(width, min(entry.timing.q3, largest)), y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=_TEXT,
            fontsize=_SIZE,
            fontweight="bold" if ours else "normal",
        )
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries], fontsize=_SIZE)
    for label, entry in zip(axes.get_yticklabels(), entries, strict=True):
        label.set_color(_OURS if entry.side == OURS else _TEXT)
    for i, entry in enumerate(reversed(_floors(outcome))):
        _draw_floor(axes, entry.timing.median, entry.label, len(entries) - 0.5 + _LINE * i)
    axes.set_xlim(0, 1.2 * largest)
    axes.spines[:].set_visible(False)
    axes.vlines(0, -0.5, len(entries) - 0.5, color=_TEXT, linewidth=1.2)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])


def _draw_floor(axes: Any, at: float, label: str, bottom: float) -> None:
    axes.vlines(at, -0.5, bottom, color=_FLOOR, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{label.removeprefix('floor: ')}: {seconds(at).replace('us', 'µs')}",
        (at, bottom),
        xytext=(0, -2),
        textcoords="offset points",
        va="top",
        color=_FLOOR,
        fontsize=_SIZE - 0.5,
    )
