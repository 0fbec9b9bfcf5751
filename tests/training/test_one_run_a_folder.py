"""Checkpoints of two runs never mix."""

import contextlib
import os

import pytest

import anyprop as ap
from parallel_cases import CASES
from ranks import on_ranks

pytest.importorskip("fcntl")


class Within(ap.Callback):
    """Do something during a run."""

    def __init__(self, act):
        self.act = act

    def on_epoch(self, run):
        if run.epoch == 2:
            self.act()


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_is_refused(problem, tmp_path, resume):
    def second():
        where = {"resume": tmp_path} if resume else {}
        with pytest.raises(ValueError, match="another run is writing into") as caught:
            problem.fit(epochs=4, callbacks=[ap.Checkpoints(tmp_path)], **where)
        assert str(tmp_path) in str(caught.value)
        assert f"process {os.getpid()}" in str(caught.value)

    problem.fit(epochs=3, callbacks=[ap.Checkpoints(tmp_path), Within(second)])
    wanted = ["best.safetensors", *(f"step-{step:08d}.safetensors" for step in (5, 10, 15))]
    assert sorted(path.name for path in tmp_path.iterdir()) == wanted


WRITING = {
    "Checkpoints and Checkpoints": [ap.Checkpoints, ap.Checkpoints],
    "CSVLogger and JSONLogger": [ap.CSVLogger, ap.JSONLogger],
    "JSONLogger and Checkpoints": [ap.JSONLogger, ap.Checkpoints],
}


@pytest.mark.parametrize("both", WRITING)
def test_two_of_one_run_are_refused(problem, tmp_path, both):
    (tmp_path / "link").symlink_to(tmp_path)
    one, other = WRITING[both]
    with pytest.raises(ValueError, match=f"{both} of callbacks would both write") as caught:
        problem.fit(callbacks=[one(tmp_path / "a"), Within(print), other(tmp_path / "link" / "a")])
    assert f"{tmp_path / 'a'}; name another" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link"]


def test_one_callback_is_given_once(problem):
    stop = ap.EarlyStopping("train_loss", patience=2)
    with pytest.raises(ValueError, match="hold one EarlyStopping twice"):
        problem.fit(callbacks=[stop, Within(list), stop])


def test_folders_are_no_checkpoints(problem, tmp_path):
    for step in (0, 99):
        (tmp_path / f"step-{step:08d}.safetensors").mkdir()
    problem.fit(epochs=2, callbacks=[ap.Checkpoints(tmp_path, keep=1)])
    problem.fit(epochs=3, callbacks=[ap.Checkpoints(tmp_path, keep=1)], resume=tmp_path)
    assert len([path for path in tmp_path.glob("step-*") if path.is_file()]) == 1
    assert len([path for path in tmp_path.glob("step-*") if path.is_dir()]) == 2


def test_files_of_others_stay(problem, tmp_path):
    names = [".notes.20240101", ".net.safetensors.0123abcd"]
    for name in names:
        (tmp_path / name).mkdir()
    left = [".best.safetensors.0123abcd", ".step-00000005.safetensors.0123abcd"]
    for name in left:
        (tmp_path / name).mkdir()
    problem.fit(callbacks=[ap.Checkpoints(tmp_path)])
    found = {path.name for path in tmp_path.iterdir()}
    assert found >= set(names)
    assert not found & set(left)


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit])
def test_a_run_that_an_error_ended_is_resumed(problem, tmp_path, error):
    def fail():
        raise error

    keep = ap.Checkpoints(tmp_path)
    with contextlib.suppress(error):
        problem.fit(epochs=3, callbacks=[keep, Within(fail)])
    result = problem.fit(epochs=3, callbacks=[keep], resume=tmp_path)
    assert len(result.history.losses) == 15


def test_a_refused_start_frees_the_folder(problem, tmp_path):
    problem.fit(callbacks=[ap.Checkpoints(tmp_path)])
    for _ in range(2):
        with pytest.raises(ValueError, match="has checkpoints of an earlier run"):
            problem.fit(callbacks=[ap.Checkpoints(tmp_path)])


def test_ranks_are_one_run(tmp_path):
    def fit(communicator):
        return CASES["plain"].fit(communicator, callbacks=[ap.Checkpoints(tmp_path)])

    on_ranks(3, fit)
    assert len(list(tmp_path.iterdir())) == 4


def test_checkpoints_name_their_file(problem, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"step-00000005.safetensors|best.safetensors") as caught:
        problem.fit(callbacks=[ap.Checkpoints(tmp_path)])
    assert caught.value.state.step == 5


def test_checkpoints_name_their_folder(problem, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        problem.fit(callbacks=[ap.Checkpoints(tmp_path / "file" / "below")])
