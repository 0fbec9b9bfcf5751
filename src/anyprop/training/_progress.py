"""The progress bar of a run."""

from __future__ import annotations

from typing import Any


def progress_bar(total: int | None, done: int, *, shown: bool) -> Any:
    """Open a progress bar, or something that shows nothing in its place.

    Parameters
    ----------
    total : int, optional
        Steps of the whole run; None if nobody knows.
    done : int
        Steps done before.
    shown : bool
        Whether there is a bar.

    Returns
    -------
    object
        With `set_postfix` and `update` of tqdm's bar, and `close`, which may be called twice.
    """
    if not shown:
        return _NoBar()
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, unit="step")


class _NoBar:
    def set_postfix(self, **values: object) -> None:
        pass

    def update(self, steps: int) -> None:
        pass

    def close(self) -> None:
        pass
