"""The progress bar of a run."""

from __future__ import annotations

import time
from typing import Any

_MUCH = 0.05
"""Share of the time in which steps wait for data, from which on it is shown."""


class Bar:
    """Shows how far a run is, which has done some steps of a total, if that is known.

    It is drawn with the first steps: what `on_start` prints has a line of its own. Not `shown`, it does
    nothing.
    """

    def __init__(self, total: int | None = None, done: int = 0, *, shown: bool = False) -> None:
        self._total, self._done, self._shown = total, done, shown
        self._began = time.time()
        self._bar: Any = None

    def show(self, steps: int, loss: float, waiting: float) -> None:
        """Move on by some steps, whose mean loss is `loss`; `waiting` is a share of the time."""
        if not self._shown:
            return
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
        """End; may be called twice."""
        if self._bar is not None:
            self._bar.close()
