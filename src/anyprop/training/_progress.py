"""The progress bar of a run."""

from __future__ import annotations

import contextlib
import functools
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
    bar = _LateBar(total, done)
    try:
        yield bar
    finally:
        bar.close()


class _LateBar:
    """A bar that is drawn with its first news: what `on_start` prints has a line of its own."""

    def __init__(self, total: int | None, done: int) -> None:
        from tqdm.auto import tqdm

        self._open = functools.cache(lambda: tqdm(total=total, initial=done, unit="step"))

    def set_postfix(self, **values: object) -> None:
        self._open().set_postfix(**values)

    def update(self, steps: int) -> None:
        self._open().update(steps)

    def close(self) -> None:
        self._open().close()


class _NoBar:
    def set_postfix(self, **values: object) -> None:
        pass

    def update(self, steps: int) -> None:
        pass
