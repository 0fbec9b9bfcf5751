"""A process of its own for each contestant.

Libraries that share a process share its threads, its allocator and its peak memory, and hiding a
package from only one of them is not possible in one process.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyprop.testing import process
from anyprop.testing.process import Answering, EndedError
from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.runner import FailedError, NotRunError, Runner
from benchmarks.workloads import WORKLOADS, Problem

LONG = 1.0  # seconds of a turn that is long enough to be measured from asleep


class Worker:
    """A contestant in a process of its own, ready for its turns.

    Parameters
    ----------
    contestant, workload : str
        Their names.
    folder : Path
        Where the workload's arrays are.
    device : {"cpu", "cuda"}
        Where it computes.

    Raises
    ------
    NotRunError
        The contestant cannot take part.
    FailedError
        It should have run, and failed.

    Attributes
    ----------
    first_call : float
        Seconds that its first call took, with empty caches of compiled code.
    values : list of float
        Numbers that must agree with the reference.
    chunk : int
        Steps that it does at a time.
    threads : dict of str to int
        Threads of the libraries that it loaded.
    """

    def __init__(self, contestant: str, workload: str, folder: Path, device: str) -> None:
        self._caches = tempfile.TemporaryDirectory()
        self._process = Answering(
            "from benchmarks.worker import serve; serve()",
            complaints=Path(self._caches.name) / "stderr",
            environment=_environment(device, self._caches.name),
        )
        try:
            ready = self._ask("prepare", contestant, workload, str(folder), device)
        except BaseException:
            self.close()
            raise
        self.first_call: float = ready["first_call"]
        self.values: list[float] = ready["values"]
        self.chunk: int = ready["chunk"]
        self.threads: dict[str, int] = ready["threads"]

    def turn(self, steps: int) -> float:
        """Run that many steps from the start and return the seconds they took."""
        return float(self._ask("turn", steps))

    def peak_memory(self) -> int | None:
        """Return the most memory that the process has had, in bytes; None where it is not counted."""
        answer: int | None = self._ask("peak_memory")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.close()
        self._caches.cleanup()

    def _ask(self, *request: Any) -> Any:
        try:
            kind, answer = self._process.ask(*request)
        except EndedError as error:
            ended = f"its process ended with code {error.code}{error.complaint}"
            raise FailedError(ended) from error
        if kind == "not run":
            raise NotRunError(answer)
        if kind == "failed":
            raise FailedError(answer)
        return answer


def _environment(device: str, caches: str) -> dict[str, str]:
    """Return variables that say where to compute, and keep away code compiled before."""
    names = ("TORCHINDUCTOR_CACHE_DIR", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "CUPY_CACHE_DIR")
    places = {name: f"{caches}/{name.lower()}" for name in names}
    if device == "cpu":
        return places | {"JAX_PLATFORMS": "cpu"}
    # JAX would take most of the GPU's memory, which the others are using, and multiply in TF32, which
    # the others do not.
    alike = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    return places | alike


def serve() -> None:
    """Answer requests until standard input ends."""
    session = _Session()

    def answer(name: str, *arguments: Any) -> tuple[str, Any]:
        try:
            return "done", getattr(session, name)(*arguments)
        except NotRunError as error:
            return "not run", str(error)
        except Exception as error:  # whatever a library raises is the contestant's result
            return "failed", _told(error)

    process.serve(answer)


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


class _Session:
    """What a worker's process does."""

    _took = 0.0  # the last turn, in seconds

    def prepare(self, name: str, workload: str, folder: str, device: str) -> dict[str, Any]:
        contestant = CONTESTANTS[name]
        for package in contestant.without:
            sys.modules[package] = None  # type: ignore[assignment]
        problem = Problem.load(WORKLOADS[workload], Path(folder))
        self._runner = contestant.makers[problem.workload.kind](problem, device)
        began = time.perf_counter()
        self._runner.run(self._runner.chunk)
        first_call = time.perf_counter() - began
        values = self._runner.check(problem.workload.checked)
        self._runner.run(-(-self._runner.settling // self._runner.chunk) * self._runner.chunk)
        return {
            "first_call": first_call,
            "values": values,
            "chunk": self._runner.chunk,
            "threads": _threads(),
        }

    def turn(self, steps: int) -> float:
        warm_up = self._took < LONG
        self._took = timed_turn(self._runner, steps, time.perf_counter, warm_up=warm_up)
        return self._took

    def peak_memory(self) -> int | None:
        return _peak_memory()


def timed_turn(
    runner: Runner, steps: int, clock: Callable[[], float], *, warm_up: bool = True
) -> float:
    """Measure a turn.

    Parameters
    ----------
    runner : Runner
        What does it.
    steps : int
        Number of steps, a multiple of the runner's chunk.
    clock : callable
        Returns seconds.
    warm_up : bool
        Do as many steps of the run before, so that threads, caches and memory are awake, a compiled step
        has taken over the arrays of this run, and the threads of whoever was measured before are asleep:
        some spin for tens of milliseconds.

    Returns
    -------
    float
        Seconds.
    """
    runner.reset()
    if warm_up:
        runner.run(steps)
    began = clock()
    runner.run(steps)
    return clock() - began


def _peak_memory() -> int | None:
    # Linux counts what the process had before it became ours in ru_maxrss, but not in VmHWM.
    status = Path("/proc/self/status")
    if status.exists():
        (kib,) = re.findall(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        return int(kib) * 1024
    if sys.platform == "darwin":
        resource: Any = importlib.import_module("resource")
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return None


def _threads() -> dict[str, int]:
    """Count the threads of the libraries that are loaded here."""
    found = {}
    if sys.modules.get("torch"):
        found["torch"] = sys.modules["torch"].get_num_threads()
    if sys.modules.get("numba"):
        found["numba"] = sys.modules["numba"].get_num_threads()
    try:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        pools = []
    return found | {
        Path(pool["filepath"]).name.split(".")[0].split("-")[0]: pool["num_threads"]
        for pool in pools
    }
