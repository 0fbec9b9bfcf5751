"""Signals held back while a step runs, so that Ctrl-C never leaves half of an update behind.

A step may work in place, and would leave parameters and state that belong to no step if Ctrl-C ended it.
So `fit` says when a step begins and ends; a signal in between takes effect when the step has ended,
and a second one at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class HeldSignals:
    """Hold signals back between `hold` and `release`; used as a context.

    It is called in place of the handlers that are installed when the context is entered, and calls
    them later; a signal without a handler in Python is left alone. Handlers belong to the main thread:
    in any other, nothing happens here.
    """

    def __init__(self, *signums: int) -> None:
        self._signums = signums
        self._handlers: dict[int, Any] = {}
        self._came: int | None = None
        self.holding = False

    def __enter__(self) -> HeldSignals:
        if threading.current_thread() is threading.main_thread():
            for signum in self._signums:
                handler = signal.getsignal(signum)
                if callable(handler):
                    self._handlers[signum] = handler
                    signal.signal(signum, self._receive)
        return self

    def __exit__(self, *unused: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def hold(self) -> None:
        """Begin what no signal should interrupt."""
        self.holding = True

    @property
    def came(self) -> bool:
        """Whether a signal is held back."""
        return self._came is not None

    def release(self) -> None:
        """End it; a signal that came in the meantime takes effect."""
        self.holding = False
        if self._came is not None:
            came, self._came = self._came, None
            self._handlers[came](came, None)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.holding and self._came is None:
            self._came = signum
        else:
            self._handlers[signum](signum, frame)
