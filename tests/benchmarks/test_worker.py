"""A process for each contestant: what it answers, and what happens to one that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.runner import FailedError, NotRunError
from benchmarks.worker import Worker, _Session
from benchmarks.workloads import WORKLOADS, Problem

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "arrays"
    workload = WORKLOADS["tiny"]
    Problem(workload, workload.make(workload)).save(folder)
    return folder


@pytest.fixture
def start(folder):
    workers = []

    def start(contestant, workload="tiny", folder=folder):
        workers.append(Worker(contestant, workload, folder, "cpu"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def test_it_answers(start):
    worker = start("anyprop-numpy")
    assert len(worker.values) == WORKLOADS["tiny"].checked
    assert worker.first_call > 0
    assert worker.chunk == 1
    assert worker.turn(10) > 0
    assert 10 * 2**20 < worker.peak_memory() < 2**30


def test_it_answers_line_for_line_until_nobody_asks(folder):
    requests = [
        ["prepare", "numpy-book", "tiny", str(folder), "cpu"],
        ["turn", 3],
        ["peak_memory"],
        ["turn", "many"],
        ["prepare", "sklearn", "tiny", str(folder), "cpu"],
    ]
    code = (
        "from benchmarks import worker\n"
        "turn = worker.timed_turn\n"
        "def told(*given, **how):\n"
        "    print('what a library says')\n"
        "    return turn(*given, **how)\n"
        "worker.timed_turn = told\n"
        "worker.serve()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="".join(f"{json.dumps(request)}\n" for request in requests),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [kind for kind, _ in answers] == ["done", "done", "done", "failed", "not run"]
    ready, seconds, memory = (answer for _, answer in answers[:3])
    assert len(ready["values"]) == WORKLOADS["tiny"].checked
    assert 0 < seconds < 60
    assert memory > 10 * 2**20
    assert answers[3][1].startswith("TypeError: ")
    assert "what a library says" in done.stderr
    assert "two classes one output" in answers[4][1]


def test_its_memory_is_its_own(start):
    ballast = np.ones(40_000_000)
    assert start("numpy-book").peak_memory() < ballast.nbytes


@pytest.mark.parametrize(("contestant", "found"), [("anyprop-numpy", False), ("numpy-book", True)])
def test_who_is_measured_without_a_library_cannot_import_it(contestant, found, folder):
    code = (
        "import importlib.util\n"
        "from benchmarks.worker import _Session\n"
        f"_Session().prepare({contestant!r}, 'tiny', {str(folder)!r}, 'cpu')\n"
        "print(importlib.util.find_spec('numba') is not None)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == str(found)


@pytest.mark.parametrize("numba", [False, True])
def test_numba_compiles_the_step_of_who_may_use_it(numba, tmp_path):
    workload = WORKLOADS["update-1m"]
    Problem(workload, workload.make(workload)).save(tmp_path / "arrays")
    name = "anyprop-numpy-compiled" + "-numba" * numba
    worker = Worker(name, "update-1m", tmp_path / "arrays", "cpu")
    caches = Path(worker._caches.name)
    try:
        assert ("numba" in worker.threads) == numba
        assert bool(list(caches.rglob("*.nbi"))) == numba
    finally:
        worker.close()


def test_who_settles_has_done_these_steps_before_the_first_turn(start):
    worker = start("anyprop-numpy-loop")
    assert list(Path(worker._caches.name).rglob("*.nbi"))


def test_a_long_turn_is_not_done_twice(monkeypatch):
    warmed = []

    def turn(runner, steps, clock, *, warm_up):
        warmed.append(warm_up)
        return float(steps)

    monkeypatch.setattr("benchmarks.worker.timed_turn", turn)
    session = _Session()
    session._runner = None
    assert [session.turn(0.5), session.turn(2), session.turn(0.5), session.turn(0.5)] == [
        0.5,
        2,
        0.5,
        0.5,
    ]
    assert warmed == [True, True, False, True]


def test_it_tells_what_a_library_raised(start, tmp_path):
    with pytest.raises(FailedError, match=r"^KeyError: 'x'$"):
        start("numpy-book", folder=tmp_path)


def test_it_tells_who_cannot_take_part(start):
    with pytest.raises(NotRunError, match="two classes one output"):
        start("sklearn")


def test_a_process_that_dies_is_a_failure(start):
    worker = start("numpy-book")
    os.kill(worker._process._process.pid, 9)
    with pytest.raises(FailedError, match="its process ended with code -9"):
        worker.turn(1)


def test_it_is_gone_when_it_is_closed(folder):
    worker = Worker("numpy-book", "tiny", folder, "cpu")
    caches = worker._caches.name
    worker.close()
    assert worker._process._process.returncode is not None
    assert not os.path.exists(caches)
