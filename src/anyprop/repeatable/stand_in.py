"""What takes the place of an array or a number while a step is recorded."""

from __future__ import annotations

import threading
from typing import NoReturn


class TraceError(TypeError):
    """A step does what cannot be repeated from a recording; it has to run eagerly."""


_thread = threading.local()


def refuse(reason: str) -> NoReturn:
    """Raise TraceError, and remember it, as the step may catch it and go on in another way."""
    _thread.refused = TraceError(reason)
    raise _thread.refused


def take_refused() -> TraceError | None:
    """Return what was refused last in this thread, and forget it; None if nothing was."""
    error: TraceError | None = getattr(_thread, "refused", None)
    _thread.refused = None
    return error


class StandIn:
    """Base of what takes the place of an array or a number, in the recording that it was made for."""

    __slots__ = ()
