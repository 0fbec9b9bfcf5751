"""Ranks that are threads of one process: what several ranks compute, without MPI and on any backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anyprop import to_host


class _Job:
    """What the ranks of one job share."""

    def __init__(self, size: int) -> None:
        self.given: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=60)


class ThreadCommunicator:
    """A communicator whose arrays are added up in the order of the ranks."""

    def __init__(self, job: _Job, rank: int) -> None:
        self._job = job
        self.rank = self.local_rank = rank
        self.size = len(job.given)
        self.reductions = 0

    def _all(self, value: Any) -> list[Any]:
        self._job.given[self.rank] = value
        self._job.barrier.wait()
        values = list(self._job.given)
        self._job.barrier.wait()
        return values

    def all_reduce(self, array: Any) -> Any:
        to_host(array)  # as every communicator reads the numbers: a tracer of JAX has none
        self.reductions += 1
        first, *others = self._all(array)
        for other in others:
            first = first + other
        self._job.barrier.wait()  # no rank overwrites its summand before all have read it
        return first

    def broadcast(self, array: Any) -> Any:
        return self._all(array)[0]

    def gather(self, value: Any) -> list[Any] | None:
        values = self._all(value)
        return values if self.rank == 0 else None

    def barrier(self) -> None:
        self._all(None)

    def abort(self, code: int = 1) -> Any:
        self._job.barrier.abort()
        raise SystemExit(code)


def on_ranks(size: int, function: Callable[[ThreadCommunicator], Any]) -> list[Any]:
    """Call a function on each of `size` ranks and list what it returns."""
    job = _Job(size)

    errors = []

    def rank(r: int) -> Any:
        try:
            return function(ThreadCommunicator(job, r))
        except threading.BrokenBarrierError:  # another rank failed, and says why
            return None
        except BaseException as error:
            errors.append(error)
            job.barrier.abort()
            return None

    with ThreadPoolExecutor(size) as pool:
        results = list(pool.map(rank, range(size)))
    if errors:
        raise errors[0]
    assert not job.barrier.broken, "a rank waited in vain"
    return results
