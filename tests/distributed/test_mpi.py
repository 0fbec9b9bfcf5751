"""Real processes, started by mpiexec. A run is judged by its return code and by the file it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from parallel_cases import CASES

pytestmark = pytest.mark.needs("mpi")

HERE = Path(__file__).parent


def mpiexec(ranks, program, *args, timeout=120):
    """Start a program of the folder `programs` on several ranks; the time limit is for a defect."""
    command = ["mpiexec", "-n", str(ranks), sys.executable, HERE / "programs" / f"{program}.py"]
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*map(str, command), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
        check=False,
    )


@pytest.fixture(scope="module")
def alone():
    return {
        f"{name}/{key}": array
        for name, case in CASES.items()
        for key, array in case.alone().items()
    }


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_train_as_one(ranks, alone, tmp_path):
    done = mpiexec(ranks, "train_cases", tmp_path / "result.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "result.npz") as result:
        assert result["size"] == ranks
        assert set(result.files) == {"size", "mean of means", *alone}
        for name, expected in alone.items():
            np.testing.assert_allclose(result[name], expected, rtol=0, atol=1e-12, err_msg=name)
        # The control: what is not quite right differs by much more than that.
        assert np.max(np.abs(result["mean of means"] - alone["plain/flat"])) > 1e-3


def failed(how, tmp_path):
    """Run a job that fails on rank 1; return its errors, and how long it took."""
    began = time.monotonic()
    done = mpiexec(3, "fail", how, tmp_path / "result.json")
    assert done.returncode != 0, done.stderr
    assert not (tmp_path / "result.json").exists()
    return done.stderr, time.monotonic() - began


def test_an_exception_ends_all_ranks_with_its_traceback(tmp_path):
    errors, seconds = failed("raise", tmp_path)
    assert "Traceback" in errors
    assert "ArithmeticError: the reason on rank 1" in errors
    assert "rank 1 of 3 ended by ArithmeticError; all ranks end." in errors
    assert seconds < 30


def test_a_killed_rank_ends_the_others(tmp_path):
    _, seconds = failed("kill", tmp_path)
    assert seconds < 30


def test_a_rank_that_hangs_ends_all_after_the_time_limit(tmp_path):
    errors, seconds = failed("hang", tmp_path)
    assert "waited 3 seconds for another rank" in errors
    assert 3 < seconds < 30


def test_a_rank_that_leaves_early_is_not_waited_for(tmp_path):
    errors, seconds = failed("exit", tmp_path)
    assert "for another rank" in errors
    assert seconds < 30


def test_a_job_that_succeeds_says_so(tmp_path):
    """The control for those above: the same program, and no rank fails."""
    done = mpiexec(3, "fail", "not", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").read_text() == '"finished"'


def test_a_gpus_array_waits_for_its_stream(tmp_path):
    done = mpiexec(1, "staging", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "staged": ["get", "Allreduce on the host", "set", "synchronize"] * 3,
        "aware": ["synchronize", "Allreduce on the gpu"] * 3,
    }
