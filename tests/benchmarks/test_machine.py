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


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "absent")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "getloadavg")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    found = machine.describe(["tiny"], "cpu")["machine"]
    assert found["processor"]
    assert found["cores"] == os.cpu_count()
    assert (found["memory_gib"], found["load_before"]) == (None, None)
