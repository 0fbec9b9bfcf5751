"""Loss curves.

Figures are made without pyplot, so that nothing global changes and no window opens. They bring their
picture along, so a notebook shows one that is the last value of a cell; `figure.savefig` writes it to a
file.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeAlias

import numpy as np

from anyprop._checks import count, few, flag
from anyprop._usage import usage
from anyprop.history import History

Curve: TypeAlias = History | Sequence[float]
"""What one curve is drawn from."""

# Okabe and Ito's colours, which readers with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_TOO_LARGE = 1e280


@usage("plot_history(history)")
def plot_history(
    histories: Curve | Mapping[str, Curve], *, smooth: int | None = None, log: bool | None = None
) -> Any:
    """Draw the loss of one or several runs step by step, and their validation by epoch if there is any.

    Parameters
    ----------
    histories : History, sequence of float, or dict of them
        One run, or several under the names for the legend. A sequence holds the losses of the steps.
    smooth : int >= 1, optional
        Number of steps over which the strong line is a centred mean; the light line behind it is
        the loss as it is. By default a fiftieth of the longest run; 1 draws no second line.
    log : bool, optional
        Whether the axis of the loss is logarithmic. By default it is where the largest loss is more than
        a hundred times the smallest, which a linear axis would show as one line at the bottom.

    Returns
    -------
    matplotlib.figure.Figure
        The figure. In a notebook it shows itself where it is the last value of a cell. A title is
        ``figure.suptitle(...)``.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    TypeError, ValueError
        There is nothing to draw, or one of them is not a history.

    Examples
    --------
    >>> figure = plot_history({"a": [2.3, 1.2, 0.8], "b": [2.3, 2.0, 1.5]})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['a', 'b']
    """
    runs = _named(histories)
    if smooth is None:
        smooth = max(max(len(run.losses) for run in runs.values()) // 50, 1)
    log = _spans(runs.values()) if log is None else flag("plot_history", "log", log)
    smooth = count("plot_history", "smooth", smooth)
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ImportError(
            'plot_history needs matplotlib; run pip install "anyprop[cli]".'
        ) from None

    shown: Any = importlib.import_module("anyprop._shown_figure")
    names = ["loss"]
    validated = [run for run in runs.values() if _points(run, "validation_loss")[0]]
    if any(_points(run, "validation_accuracy")[0] for run in validated):
        names.append("accuracy")
    figure = shown.ShownFigure(figsize=(6.4 * len(names), 4.2), layout="constrained")
    axes = figure.subplots(1, len(names), sharex=True, squeeze=False)[0]
    for i, (name, run) in enumerate(runs.items()):
        style = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": _STYLES[i % len(_STYLES)],  # a curve under another shows in its gaps
        }
        _draw_loss(axes[0], name, run, smooth, style)
        if len(names) > 1:
            _draw_points(axes[1], name, run, "validation_accuracy", style)
    _label(axes[0], "loss", named="" not in runs or bool(validated))
    if log:
        axes[0].set_yscale("log")
    if len(names) > 1:
        _label(axes[1], "validation accuracy", named="" not in runs)
    return figure


def _named(histories: Curve | Mapping[str, Curve]) -> dict[str, History]:
    curves: Any = histories
    if not isinstance(curves, Mapping) or {"losses", "epochs"} <= curves.keys():
        curves = {"": curves}
    runs: dict[str, History] = {}
    for name, curve in curves.items():
        if isinstance(curve, Mapping):
            raise TypeError(
                "plot_history was given the dict of a history; pass History.from_dict(history)."
            )
        if str(name) in runs:
            raise ValueError(f"plot_history was given two curves called {str(name)!r}.")
        if not isinstance(curve, History):
            try:
                if isinstance(curve, (str, bytes, Set)):
                    raise TypeError
                curve = History([float(value) for value in curve])
            except (TypeError, ValueError):
                raise TypeError(
                    f"plot_history draws a History or a sequence of losses, not {few([curve])}."
                ) from None
        if not curve.losses:
            raise ValueError(f"the history {name!r} has no losses to draw.")
        runs[str(name)] = curve
    if not runs:
        raise ValueError("plot_history was given no history.")
    return runs


def _spans(runs: Iterable[History]) -> bool:
    """Return whether the losses are spread so far that a linear axis hides most of them."""
    losses = [loss for run in runs for loss in run.losses if math.isfinite(loss)]
    return bool(losses) and 0.0 < 100.0 * min(losses) < max(losses)


def _draw_loss(axes: Any, name: str, run: History, smooth: int, style: dict[str, Any]) -> None:
    steps, losses = np.arange(1, len(run.losses) + 1), _drawable(run.losses)
    if smooth > 1:
        axes.plot(steps, losses, color=style["color"], alpha=0.25, linewidth=0.7, zorder=1)
    mean = _smoothed(losses, smooth)
    axes.plot(steps, mean, **style, linewidth=1.8, label=name or "training")
    hollow = {"color": style["color"], "linestyle": "none", "markerfacecolor": "white", "zorder": 3}
    name = f"{name}, validation" if name else "validation"
    _draw_points(axes, name, run, "validation_loss", hollow)


def _draw_points(axes: Any, name: str, run: History, field: str, style: dict[str, Any]) -> None:
    steps, values = _points(run, field)
    if steps:
        drawn = _drawable(values)
        axes.plot(steps, drawn, **style, marker="o", markersize=5, label=name or None)


def _points(run: History, field: str) -> tuple[list[int], list[float]]:
    records = [record for record in run.epochs if getattr(record, field) is not None]
    return [record.step for record in records], [getattr(record, field) for record in records]


def _label(axes: Any, what: str, *, named: bool) -> None:
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(what)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    if named:
        axes.legend(frameon=False)


def _drawable(values: Sequence[float]) -> Any:
    """Put NaN, which leaves a gap, for numbers so large that the margins of an axis overflow."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.abs(numbers) < _TOO_LARGE, numbers, np.nan)


def _smoothed(values: Sequence[float], width: int) -> Any:
    """Average each value with its neighbours, over windows that the first and the last value bound.

    At the start, where a loss falls fast, a window has as many values on its right as on its left. It is
    added up from blocks of 1, 2, 4, ... values, so that one that is huge or NaN is in no other window.
    """
    n, half = len(values), (width - 1) // 2
    at = np.arange(n)
    left, right = np.minimum(at, half), np.minimum(np.minimum(at, n - 1 - at), half)
    start, counts, sums = at - left, left + right + 1, np.zeros(n)
    size, blocks = 1, np.asarray(values, dtype=np.float64)  # sums of `size` values from each on
    while len(blocks) and size <= width:
        has = (counts & size) > 0
        sums[has] += blocks[start[has]]
        start = start + size * has
        size, blocks = 2 * size, blocks[:-size] + blocks[size:]
    return sums / counts
