"""The progress bar of a run."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Protocol

_MUCH = 0.05
"""Share of the time in which steps wait for data, from which on it is shown."""


class Bar(Protocol):
    """Shows how far a run is."""

    def show(self, steps: int, loss: float, waiting: float) -> None:
        """Move on by some steps, whose mean loss is `loss`; `waiting` is a share of the time."""

    def close(self) -> None:
        """End; may be called twice."""


class NoBar:
    """Shows nothing."""

    def show(self, steps: int, loss: float, waiting: float) -> None:
        pass

    def close(self) -> None:
        pass


def progress_bar(total: int | None, done: int, *, shown: bool) -> Bar:
    """Open a progress bar, or something that shows nothing in its place.

    Parameters
    ----------
    total : int, optional
        Total number of steps; None if unknown.
    done : int
        Steps done before.
    shown : bool
        Whether to show a bar.
    """
    return _TqdmBar(total, done) if shown else NoBar()


def close_quietly(bar: Bar) -> None:
    """Close a bar after an error, which is the one to be reported."""
    with contextlib.suppress(Exception):
        bar.close()


class _TqdmBar:
    """A bar that is drawn with the first steps: what `on_start` prints has a line of its own."""

    def __init__(self, total: int | None, done: int) -> None:
        self._total, self._done = total, done
        self._began = time.time()
        self._bar: Any = None

    def show(self, steps: int, loss: float, waiting: float) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, initial=self._done, unit="step")
            self._bar.start_t = self._bar.last_print_t = self._began
        told = {"loss": f"{loss:.4g}"}
        if waiting >= _MUCH:
            told["waits for data"] = f"{waiting:.0%}"
        self._bar.set_postfix(**told, refresh=False)
        self._bar.update(steps)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
