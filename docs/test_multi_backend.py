"""The files that "Multi-backend CI" shows do what the page says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "how-to" / "multi-backend"


@pytest.fixture
def run(tmp_path):
    shutil.copytree(FILES, tmp_path / "library")

    def run(*command):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path / "library",
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def nox(run, session, *options):
    """Run a session where this runs, which has what the session would install."""
    return run("nox", "--no-venv", "--no-install", "--session", session, "--", *options)


def test_each_test_runs_on_each_backend(run):
    code, said = run("pytest", "--backend=numpy", "--backend=array_api_strict", "-v")
    assert code == 0, said
    for name in ("numpy", "array_api_strict"):
        assert said.count(f"[{name}] PASSED") == 2


def test_a_missing_backend_ends_the_run(run):
    code, said = run("pytest", "--backend=numpy", "--backend=cupy")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "--backend cupy cannot be used" in said


def test_what_only_numpy_allows_fails(run, tmp_path):
    file = tmp_path / "library" / "standardize.py"
    file.write_text(file.read_text().replace("xp.std(x, axis=0)", "x.std(axis=0)"))
    code, said = run("pytest", "--backend=numpy", "--backend=array_api_strict")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "2 failed, 2 passed" in said


def test_sessions_run(run):
    assert nox(run, "tests(numpy)")[0] == 0
    assert nox(run, "tests(cupy)")[0] == 1
    code, said = nox(run, "contract(array_api_strict)", "--only=losses/huber")
    assert code == 0, said
    assert "1 checks passed" in said


def test_every_backend_is_a_session(run):
    code, said = run("nox", "--list", "--json", "--tags", "cpu")
    assert code == 0, said
    names = ("numpy", "array_api_strict", "torch", "jax")
    sessions = [found["session"] for found in json.loads(said)]
    assert sessions == [f"{kind}({name})" for kind in ("tests", "contract") for name in names]
