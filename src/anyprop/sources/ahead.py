"""Things made ahead, in a thread, while those before them are used.

One thread and no processes: it overlaps waiting and whatever releases the interpreter's lock, it shares
open files and memory, and things and errors come in order.
"""

from __future__ import annotations

import contextvars
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Ahead(Iterator[T]):
    """An iterator whose things are made before they are asked for.

    Parameters
    ----------
    items : iterable
        What is iterated over. It sees the caller's context variables, such as `numpy.errstate`.
    n : int >= 0
        How many are made ahead, the one that is being made included; 0 makes each when it is asked
        for, in the calling thread.

    Attributes
    ----------
    waited : float
        Seconds that the caller has waited so far.

    Notes
    -----
    Whoever iterates calls `close` in the end, however that comes; use `contextlib.closing`. An error of
    `items` is raised where the thing would have come, once. A child process that is forked while the
    thread works may inherit a lock that is never opened; with n = 0 there is no thread.
    """

    def __init__(self, items: Iterable[T], n: int) -> None:
        self.waited = 0.0
        self._iterator = iter(items) if n == 0 else None
        self._line = _Line(n) if n else None
        if self._line is not None:
            context = contextvars.copy_context()
            # The thread knows the line but not this object, which can therefore be collected.
            self._thread = threading.Thread(
                target=context.run,
                args=(_make, items, self._line),
                name="anyprop-ahead",
                daemon=True,
            )
            self._thread.start()

    def __next__(self) -> T:
        began = time.perf_counter()
        try:
            return self._next()
        finally:
            self.waited += time.perf_counter() - began

    def _next(self) -> T:
        if self._line is None:
            if self._iterator is None:  # closed
                raise StopIteration
            return next(self._iterator)
        if self._line.closed:
            raise StopIteration
        item, error = self._line.made.get()
        self._line.room.release()
        if error is None:
            made: T = item
            return made
        self._line.closed = True
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def close(self) -> None:
        """End the thread, and wait until it has made what it is making.

        Ctrl-C does not shorten the wait; a second one, or one that comes while the first is on its way
        up, does. The thread then ends when it can; it does not keep the process alive.
        """
        if self._line is None:
            iterator, self._iterator = self._iterator, None
            close_iterator(iterator)
            return
        second = _interrupted()
        self._line.leave()
        try:
            self._line.ended.wait()
        except KeyboardInterrupt:
            if not second:
                self._line.ended.wait()
            raise
        self._thread.join()  # which has nothing left to do

    def __del__(self) -> None:
        if getattr(self, "_line", None) is not None:
            self._line.leave()  # type: ignore[union-attr]


class _Line:
    """What the two threads share."""

    def __init__(self, n: int) -> None:
        self.room = threading.Semaphore(n)
        self.made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self.closed = False
        self.ended = threading.Event()

    def leave(self) -> None:
        self.closed = True
        self.room.release()


def _make(items: Iterable[Any], line: _Line) -> None:
    iterator = None
    try:
        iterator = iter(items)
        while True:
            line.room.acquire()
            if line.closed:
                return
            line.made.put((next(iterator), None))
    except BaseException as error:  # StopIteration too; the caller would wait for it for ever
        line.made.put((None, error))
    finally:
        try:
            close_iterator(iterator)
        finally:
            line.ended.set()


def close_iterator(iterator: Any) -> None:
    """Close a generator; other iterators have nothing to close."""
    if hasattr(iterator, "close"):
        iterator.close()


def _interrupted() -> bool:
    """Return whether Ctrl-C is on its way up through the calls that are being left."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__  # a generator that is closed sees its own GeneratorExit
    return error is not None
