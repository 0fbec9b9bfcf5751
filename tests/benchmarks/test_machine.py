"""What a run reports about its machine, also where the system says little."""

from __future__ import annotations

import os

import pytest

from benchmarks import machine


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Install a program `nvidia-smi` where it is looked for, and nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(script):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def test_the_gpu_is_what_the_driver_names(driver):
    driver('echo "NVIDIA H100, 580.1"')
    assert machine.describe(["tiny"], "cuda")["machine"]["gpu"] == "NVIDIA H100, 580.1"
    assert machine.describe(["tiny"], "cpu")["machine"]["gpu"] is None


def test_without_a_driver_there_is_none(driver):
    assert machine.describe(["tiny"], "cuda")["machine"]["gpu"] is None
    driver("echo broken; exit 9")
    assert machine.describe(["tiny"], "cuda")["machine"]["gpu"] is None


def test_the_load_is_that_of_now(monkeypatch):
    user, disk, idle = 100, 7, 1000
    counts = [(user, disk, idle), (user + 30, disk + 10, idle + 60)]

    class Stat:
        def __init__(self, path):
            self.path = path

        def read_text(self, **_):
            if self.path != "/proc/stat":
                raise FileNotFoundError(self.path)
            user, disk, idle = counts.pop(0)
            return f"cpu  {user} 0 0 {idle} {disk} 0 0 0 {user} 0\ncpu0 0 0\n"

    monkeypatch.setattr(machine, "Path", Stat)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert machine.describe(["tiny"], "cpu")["machine"]["load_before"] == pytest.approx(1.2)


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "absent")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "getloadavg")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = machine.describe(["tiny"], "cpu")["machine"]
    assert found["processor"]
    assert found["cores"] == os.cpu_count()
    assert (found["memory_gib"], found["load_before"]) == (None, None)
