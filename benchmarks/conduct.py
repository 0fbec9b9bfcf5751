"""One workload from its arrays to the timings of all contestants."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.contestants.registry import CONTESTANTS, Contestant
from benchmarks.measuring import measure
from benchmarks.outcomes import FAILED, NOT_RUN, Entry, Outcome
from benchmarks.reference import difference, reference
from benchmarks.runner import FailedError, NotRunError
from benchmarks.worker import Worker
from benchmarks.workloads import WORKLOADS, Problem


def conduct(
    workload: str,
    contestants: Sequence[str],
    *,
    device: str = "cpu",
    seconds: float = 3.0,
    tell: Callable[[str], object] = lambda line: None,
    threads: dict[str, int] | None = None,
) -> Outcome:
    """Run a workload with each contestant, and time those whose results are right.

    Parameters
    ----------
    workload : str
        A key of `WORKLOADS`.
    contestants : sequence of str
        Keys of `CONTESTANTS`; those that do other kinds of work are left out.
    device : {"cpu", "cuda"}
        Where to compute.
    seconds : float > 0
        About how long each contestant is measured.
    tell : callable
        Called with a line about each event.
    threads : dict, optional
        Filled with the numbers of threads that the contestants' libraries use.

    Returns
    -------
    Outcome
        An entry for each contestant; for one that cannot take part, the reason.
    """
    work = WORKLOADS[workload]
    chosen = [CONTESTANTS[n] for n in contestants if work.kind in CONTESTANTS[n].makers]
    entries = {c.name: Entry(c.label, c.side) for c in chosen}
    workers: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "arrays"
        problem = Problem(work, work.make(work))
        problem.save(folder)
        expected: dict[str, list[float]] = {}
        for contestant in chosen:
            name, entry = contestant.name, entries[contestant.name]
            try:
                _check_here(contestant, device)
                tell(f"{workload}: {contestant.label} gets ready")
                worker = Worker(name, workload, folder, device)
                stack.callback(worker.close)
                if contestant.optimizer not in expected:
                    expected[contestant.optimizer] = reference(problem, contestant.optimizer)
                off = difference(worker.values, expected[contestant.optimizer])
                if not off <= work.tolerance:
                    raise FailedError(
                        f"its numbers differ from the reference by {off:.2g} of them, more than "
                        f"{work.tolerance:g}"
                    )
            except NotRunError as error:
                entries[name] = entry._replace(status=NOT_RUN, reason=str(error))
            except FailedError as error:
                entries[name] = entry._replace(status=FAILED, reason=str(error))
            else:
                workers[name] = worker
                if threads is not None:
                    threads.update(worker.threads)
                entries[name] = entry._replace(
                    first_call=worker.first_call, difference=off if worker.values else None
                )
        tell(f"{workload}: {len(workers)} contestants take turns")
        turns = {name: worker.turn for name, worker in workers.items()}
        timings = measure(turns, {name: w.chunk for name, w in workers.items()}, seconds)
        for name, worker in workers.items():
            entries[name] = entries[name]._replace(
                timing=timings[name], peak_memory=worker.peak_memory()
            )
    return Outcome(work.name, work.title, work.kind, work.tolerance, entries)


def _check_here(contestant: Contestant, device: str) -> None:
    """Raise NotRunError if a contestant cannot run here, without importing anything."""
    if device not in contestant.devices:
        place = "the CPU" if contestant.devices == ("cpu",) else "a GPU"
        raise NotRunError(f"it computes on {place} only")
    for package in contestant.needs:
        if importlib.util.find_spec(package) is None:
            raise NotRunError(f"{package} is not installed")
