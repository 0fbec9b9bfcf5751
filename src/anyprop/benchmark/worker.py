"""A process of its own for each contestant.

Libraries that share a process share its threads, its allocator and its peak memory, and one that hides a
package from another cannot be had in one process at all. A worker reads a request from each line of its
standard input and answers on a line of its standard output, both JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyprop.benchmark.contestants.registry import CONTESTANTS
from anyprop.benchmark.runner import FailedError, NotRunError, Runner
from anyprop.benchmark.workloads import WORKLOADS, Problem


class Worker:
    """A contestant in a process of its own, ready for its turns.

    Parameters
    ----------
    contestant, workload : str
        Who does what.
    folder : Path
        Where the workload's arrays are.
    device : {"cpu", "cuda"}
        Where it computes.

    Raises
    ------
    NotRunError
        The contestant cannot take part.
    FailedError
        It should have, and broke down.

    Attributes
    ----------
    first_call : float
        Seconds that its first call took, with empty caches of compiled code.
    values : list of float
        What must agree with the reference.
    chunk : int
        Steps that it does at a time.
    threads : dict of str to int
        Threads of the libraries that it loaded.
    """

    def __init__(self, contestant: str, workload: str, folder: Path, device: str) -> None:
        self._caches = tempfile.TemporaryDirectory()
        self._complaints = Path(self._caches.name) / "stderr"
        with self._complaints.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from anyprop.benchmark.worker import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | _environment(device, self._caches.name),
                start_new_session=True,  # Ctrl-C is for the process that asks, and it ends this one
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
        """Do that many steps from the start; give the seconds they took."""
        return float(self._ask("turn", steps))

    def peak_memory(self) -> int | None:
        """Give the most memory that the process has had, in bytes; None where nobody counts it."""
        answer: int | None = self._ask("peak_memory")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._caches.cleanup()

    def _ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise FailedError(f"its process ended with code {self._process.wait()}{self._last()}")
        kind, answer = json.loads(line)
        if kind == "not run":
            raise NotRunError(answer)
        if kind == "failed":
            raise FailedError(answer)
        return answer

    def _last(self) -> str:
        """Give the last line that the process complained in."""
        lines = self._complaints.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _environment(device: str, caches: str) -> dict[str, str]:
    """Say where to compute, and let no compiled code be there from before."""
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
    # What a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    session = _Session()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = ["done", getattr(session, name)(*arguments)]
        except NotRunError as error:
            answer = ["not run", str(error)]
        except Exception as error:  # whatever a library raises is the contestant's result
            answer = ["failed", _told(error)]
        print(json.dumps(answer), file=answers, flush=True)


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


class _Session:
    """What a worker's process does."""

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
        return {
            "first_call": first_call,
            "values": values,
            "chunk": self._runner.chunk,
            "threads": _threads(),
        }

    def turn(self, steps: int) -> float:
        return timed_turn(self._runner, steps, time.perf_counter)

    def peak_memory(self) -> int | None:
        return _peak_memory()


def timed_turn(runner: Runner, steps: int, clock: Callable[[], float]) -> float:
    """Measure a turn.

    Parameters
    ----------
    runner : Runner
        Who does it.
    steps : int
        How many steps, a multiple of the runner's chunk.
    clock : callable
        Gives seconds.

    Returns
    -------
    float
        Seconds. As many steps are done before, so that threads, caches and memory are awake, and the
        threads of whoever was measured before are asleep: some spin for tens of milliseconds.
    """
    runner.reset()
    runner.run(steps)
    runner.reset()
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
