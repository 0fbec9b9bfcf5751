"""Real processes, started by mpiexec. A run is judged by its return code and by the file it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anyprop.training.resume import checkpoints_in
from parallel_cases import CASES

pytestmark = pytest.mark.needs("mpi")

HERE = Path(__file__).parent


def environment():
    paths = [str(HERE.parent / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def mpiexec(ranks, *command, timeout=120):
    """Run a command of Python on several ranks; the time limit is for a defect."""
    return subprocess.run(
        ["mpiexec", "-n", str(ranks), sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )


def run_program(ranks, name, *args):
    return mpiexec(ranks, HERE / "programs" / f"{name}.py", *args)


@pytest.fixture(scope="module")
def alone():
    return {
        f"{name}/{key}": array
        for name, case in CASES.items()
        for key, array in case.alone().items()
    }


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_train_as_one(ranks, alone, tmp_path):
    done = run_program(ranks, "train_cases", tmp_path / "result.npz")
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
    done = run_program(3, "fail", how, tmp_path / "result.json")
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
    done = run_program(3, "fail", "not", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").read_text() == '"finished"'


def test_errors_of_one_rank_that_are_caught_leave_nobody_waiting(tmp_path):
    done = run_program(3, "agree", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    own = [
        "ValueError: fit: batch_size must be a whole number of at least 1, not 0.",
        "LookupError: own",
        5,
    ]
    others = [
        f"ValueError: rank 1 refused its arguments: {own[0]}",
        f"RuntimeError: rank 1 failed: {own[1]}",
        5,
    ]
    assert json.loads((tmp_path / "result.json").read_text()) == [others, own, others]


def test_a_gpus_array_waits_for_its_stream(tmp_path):
    done = run_program(1, "staging", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "staged": ["get", "Allreduce on the host", "set", "synchronize"] * 3,
        "aware": ["synchronize", "Allreduce on the gpu"] * 3,
    }


def test_ctrl_c_on_one_rank_ends_all_after_the_same_step(tmp_path):
    done = run_program(2, "interrupt", tmp_path / "result-%d.npz")
    assert done.returncode == 0, done.stderr
    first, second = (dict(np.load(tmp_path / f"result-{rank}.npz")) for rank in (0, 1))
    assert first["interrupted"]
    assert len(first["losses"]) == 40  # all know of the signal before the next step
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def options_for(out, *options):
    call = [
        "-m",
        "anyprop",
        "train",
        "--distributed",
        "mpi",
        "--dtype",
        "float64",
        "--hidden",
        "20",
    ]
    return [*call, "--norm", "batch", "--dropout", "0.2", "--out", out, "--steps", "30", *options]


def train(ranks, out, *options):
    return mpiexec(ranks, *options_for(out, *options))


def losses_in(out):
    return np.asarray(json.loads((out / "history.json").read_text())["losses"])


def test_the_command_trains_on_ranks_as_on_one(tmp_path):
    outputs, histories = [], []
    for ranks in (1, 2):
        done = train(ranks, tmp_path / str(ranks))
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        histories.append(json.loads((tmp_path / str(ranks) / "history.json").read_text()))
        assert (tmp_path / str(ranks) / "loss.png").exists()
        assert (tmp_path / str(ranks) / "model.safetensors").exists()
    assert "30 steps on 2 ranks" in outputs[1]
    assert [output.count("finished after 30 steps") for output in outputs] == [1, 1]
    alone, ours = histories
    assert alone["settings"] == ours["settings"]
    assert alone["final"]["test_accuracy"] == ours["final"]["test_accuracy"]
    np.testing.assert_allclose(alone["losses"], ours["losses"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        alone["final"]["test_loss"], ours["final"]["test_loss"], rtol=0, atol=1e-12
    )


def test_a_wrong_call_is_told_once(tmp_path):
    done = train(2, tmp_path / "out", "--lr", "-1")
    assert done.returncode == 2
    assert done.stderr.count("anyprop: rmsprop: lr must be a positive finite number") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_diverged_training_is_told_once(tmp_path):
    done = train(2, tmp_path / "out", "--optimizer", "sgd", "--lr", "1e300")
    assert done.returncode == 1
    assert done.stderr.count("lower the learning rate") == 1


def test_a_run_is_resumed_on_any_number_of_ranks(tmp_path):
    whole = tmp_path / "whole"
    assert train(2, whole).returncode == 0
    assert train(2, tmp_path / "2", "--checkpoint-every", "8", "--steps", "20").returncode == 0
    shutil.copytree(tmp_path / "2", tmp_path / "1")
    for ranks in (2, 1):
        out = tmp_path / str(ranks)
        done = train(ranks, out, "--checkpoint-every", "8", "--resume")
        assert done.returncode == 0, done.stderr
        assert "resumed after 20" in done.stdout
        tolerance = 0 if ranks == 2 else 1e-12
        np.testing.assert_allclose(losses_in(out), losses_in(whole), rtol=0, atol=tolerance)


def test_sigterm_to_the_job_leaves_a_checkpoint(tmp_path):
    call = options_for(tmp_path, "--steps", "1000000", "--checkpoint-every", "20")
    command = ["mpiexec", "-n", "2", sys.executable, *map(str, call)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=environment()) as job:
        until = time.monotonic() + 60
        while not checkpoints_in(tmp_path / "checkpoints"):
            assert time.monotonic() < until
            time.sleep(0.05)
        job.terminate()
        output, _ = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "interrupted after" in output
    steps = len(losses_in(tmp_path))
    assert checkpoints_in(tmp_path / "checkpoints")[0][0] == steps
    more = str(steps + 5)
    done = train(2, tmp_path, "--checkpoint-every", "20", "--resume", "--steps", more)
    assert done.returncode == 0, done.stderr
    assert len(losses_in(tmp_path)) == steps + 5


def test_a_resume_that_is_refused_is_told_once(tmp_path):
    assert train(1, tmp_path, "--checkpoint-every", "10", "--steps", "10").returncode == 0
    done = train(2, tmp_path, "--checkpoint-every", "10", "--resume", "--batch-size", "50")
    assert done.returncode == 2
    assert done.stderr.count("batch_size was 100 and is 50") == 1
