"""Threads that help with work which takes one core long, and sleep in between.

Helpers are asked, and never waited for: whoever asks does the same work, and all of it if none comes.
So a core that is busy with something else costs nothing but its help. Before a fork they end, and the
next who asks starts new ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

_jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
_threads: list[threading.Thread] = []
# Held by who starts or ends threads, and during a fork.
_lock = threading.Lock()


def cores() -> int:
    """Return on how many cores this process may compute: those it is given, or OMP_NUM_THREADS."""
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # "4,2" is 4 threads, and 2 within each.
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(given or 1, int(asked) if asked.isdecimal() and int(asked) else given or 1)


def ask(functions: Sequence[Callable[[], object]]) -> None:
    """Have each of some functions called by a helper of its own: soon, late or never."""
    if len(_threads) < len(functions):
        # There may be no more than a process may start, and at its end it may start none.
        with _lock, contextlib.suppress(RuntimeError):
            while len(_threads) < len(functions):
                thread = threading.Thread(target=_help, name="anyprop-helper", daemon=True)
                thread.start()
                _threads.append(thread)
    # Where helpers have not got to the last functions, more would only pile up.
    for function in functions[_jobs.qsize() :]:
        _jobs.put(function)


def pause() -> int:
    """Return the address of the function that lets other threads of the system go first."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _help() -> None:
    while True:
        function = _jobs.get()
        if function is None:
            return
        function()
        # What it belongs to may be dropped before there is another.
        del function


def _before_fork() -> None:
    _lock.acquire()
    for _ in _threads:
        _jobs.put(None)
    for thread in _threads:
        thread.join()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
    )
