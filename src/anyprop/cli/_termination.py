"""SIGTERM as another Ctrl-C, so that what was trained is kept when a supervisor ends the process."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
"""143: what shells report for a process ended by SIGTERM, and supervisors recognize."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[list[int]]:
    """Raise `Terminated` when SIGTERM comes, in the main thread; return the list of those received."""
    came: list[int] = []

    def receive(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, receive)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
