"""Two runs never write into one folder; one that was killed does not block others."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from anyprop._locks import locked

fcntl = pytest.importorskip("fcntl")

HOLD = """
import pathlib, sys
from anyprop._locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refused(folder):
    with pytest.raises(ValueError, match="another run is writing into") as caught, locked(folder):
        pass
    return str(caught.value)


def test_one_at_a_time(tmp_path):
    with locked(tmp_path):
        for _ in range(2):
            told = refused(tmp_path)
            assert str(tmp_path) in told
            assert f"(process {os.getpid()} on {socket.gethostname()})" in told
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_folders_are_free(tmp_path):
    (tmp_path / "below").mkdir()
    with locked(tmp_path), locked(tmp_path / "below"):
        pass


def test_an_error_within_ends_the_lock(tmp_path):
    with pytest.raises(LookupError), locked(tmp_path):
        raise LookupError
    with locked(tmp_path):
        pass


def test_another_process_is_named(holder, tmp_path):
    assert f"process {holder.pid} on" in refused(tmp_path)
    holder.communicate("")
    with locked(tmp_path):
        pass


def test_what_a_killed_process_left_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert len(list(tmp_path.iterdir())) == 1
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_platforms_without_locks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path), locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_file_systems_without_locks(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path), locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_goes_away_between_open_and_lock(tmp_path, monkeypatch):
    """Then the lock is on a file that no other process will find."""
    flock, calls = fcntl.flock, []

    def late(file, how):
        calls.append(file)
        if len(calls) == 1:
            next(tmp_path.iterdir()).unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        assert len(calls) == 2
        assert len(list(tmp_path.iterdir())) == 1
