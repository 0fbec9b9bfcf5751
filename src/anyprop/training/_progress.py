"""The progress bar of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def progress_bar(total: int | None, done: int, *, shown: bool) -> Iterator[Any]:
    """Open a progress bar, or something that shows nothing in its place.

    Parameters
    ----------
    total : int, optional
        Steps of the whole run; None if nobody knows.
    done : int
        Steps done before.
    shown : bool
        Whether there is a bar.
    """
    if not shown:
        yield _NoBar()
        return
    from tqdm.auto import tqdm

    # drawn with the first step, not before: what `on_start` prints has a line of its own
    with tqdm(total=total, initial=done, unit="step", delay=1e-6) as bar:
        yield bar


class _NoBar:
    def set_postfix(self, **values: object) -> None:
        pass

    def update(self, steps: int) -> None:
        pass
