"""`python -m benchmarks`: the right answers, whatever the speed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from anyprop._locks import locked
from benchmarks import __main__ as command
from benchmarks.outcomes import Outcome, Results
from benchmarks.workloads import BATCHES, WIDTHS, WORKLOADS

PNG = b"\x89PNG\r\n\x1a\n"


def test_it_measures_and_writes(run):
    names = "anyprop-numpy,anyprop-numpy-compiled,numpy-book,floor-products,anyprop-cupy"
    code, out, err = run("tiny", "update-10k", "--only", names, "--seconds", "0.02")
    assert (code, err) == (0, "")

    folder = Path("runs/bench")
    assert {path.name for path in folder.iterdir()} == {"results.json", "tables.md", "chart.png"}
    assert (folder / "chart.png").read_bytes().startswith(PNG)
    results = Results.load(folder / "results.json")
    assert [outcome.name for outcome in results.outcomes] == ["tiny", "update-10k"]
    assert set(results["tiny"].entries) == set(names.split(","))
    assert set(results["update-10k"].entries) == set(names.split(",")) - {"floor-products"}
    for outcome in results.outcomes:
        for name, timing in outcome.timings.items():
            entry = outcome.entries[name]
            assert 0 < timing.q1 <= timing.median <= timing.q3
            assert entry.first_call > 0
            assert (entry.difference is None) == (entry.side == "floor")
            assert entry.difference is None or entry.difference <= outcome.tolerance
    raw = json.loads((folder / "results.json").read_text())
    assert raw["command"] == f"python -m benchmarks tiny update-10k --only {names} --seconds 0.02"

    assert "A tiny network's step: 4-8-2, batch 8" in out
    assert "not run: anyprop eager, CuPy (it computes on a GPU only)" in out
    for name in ("anyprop-numpy", "numpy-book"):
        assert results["tiny"].entries[name].label in out
    assert out.splitlines()[-1] == f"wrote results.json, tables.md, chart.png into {folder}"
    assert "## A tiny network's step" in (folder / "tables.md").read_text()


@pytest.mark.parametrize(("load", "busy"), [(0.4, False), (7.25, True)])
def test_a_busy_machine_is_told(load, busy, run, monkeypatch):
    machine = {"load_before": load, "cores": 2, "processor": "a processor", "gpu": None}
    about = {"machine": machine, "date": "", "command": "", "versions": {}, "blas": ""}
    monkeypatch.setattr(command, "describe", lambda words, device: about)
    _, out, _ = run("tiny", "--only", "torch-graph", "--seconds", "0.01")
    assert ("this machine is busy (its load is 7.2 on 2 cores): do not trust" in out) == busy


def test_wrong_numbers_are_exit_code_1(run, monkeypatch):
    monkeypatch.setattr("benchmarks.conduct.reference", lambda problem, optimizer: [-1.0])
    code, out, _ = run("tiny", "--only", "numpy-book", "--seconds", "0.01")
    assert code == 1
    assert "failed: plain NumPy, as the book writes it (its numbers differ" in out
    assert out.splitlines()[-1] == f"wrote results.json, tables.md into {Path('runs/bench')}"


def test_what_was_measured_before_ctrl_c_is_kept(run, monkeypatch):
    conduct, done = command.conduct, []

    def interrupted(name, *args, **options):
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return conduct(name, *args, **options)

    monkeypatch.setattr(command, "conduct", interrupted)
    code, _, err = run("tiny", "article", "--only", "numpy-book", "--seconds", "0.01")
    assert (code, err) == (130, "benchmarks: interrupted.\n")
    results = Results.load(Path("runs/bench/results.json"))
    assert [outcome.name for outcome in results.outcomes] == ["tiny"]


@pytest.mark.parametrize(("device", "left_out"), [("cpu", {"huge", "training"}), ("cuda", set())])
def test_what_is_measured_if_nothing_is_named(device, left_out, run, monkeypatch):
    done = []

    def conduct(name, *args, **options):
        done.append(name)
        return Outcome(name, name, "step", 0.0, {})

    monkeypatch.setattr(command, "conduct", conduct)
    code, _, _ = run("--device", device)
    assert code == 0
    assert set(WORKLOADS) - set(done) == left_out | {*WIDTHS, *BATCHES}


WRONG = {
    "artikle": "unknown workload 'artikle'; did you mean 'article'?",
    "tiny --only torhc": "unknown contestant 'torhc'; did you mean 'torch'?",
    "tiny --device gpu": "unknown device 'gpu'; did you mean 'cpu'?",
    "tiny --seconds 0": "argument --seconds: must be a positive finite number, not '0'.",
    "tiny --seconds long": "argument --seconds: must be a positive finite number",
    "tiny --out file": "cannot write into file: File exists.",
    "tiny --out file/below": "cannot write into file/below: Not a directory.",
}


@pytest.mark.parametrize("call", WRONG)
def test_wrong_calls(call, run, tmp_path):
    (tmp_path / "file").write_text("something else")
    code, out, err = run(*call.split())
    assert (code, out) == (2, "")
    error = err.splitlines()[-1]
    assert error.startswith("benchmarks: error: ")
    assert WRONG[call] in error
    assert error.endswith((".", "?"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_written(run):
    if not Path("/proc").is_dir():
        pytest.skip("needs a folder that refuses everybody")
    code, out, err = run("tiny", "--out", "/proc/1")
    assert (code, out) == (2, "")
    assert "cannot write into /proc/1: " in err


def test_a_folder_in_which_a_run_is_writing_is_refused(run, tmp_path):
    pytest.importorskip("fcntl")
    with locked(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = run("tiny", "--out", tmp_path)
        assert (code, out) == (2, "")
        assert f"another run is writing into {tmp_path} (process " in err
        assert sorted(tmp_path.rglob("*")) == before


def test_what_a_missing_extra_is_called(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run("tiny")
    assert (code, out) == (2, "")
    assert 'matplotlib is not installed; run pip install "anyprop[cli]" first.' in err


def test_a_full_disk_is_one_sentence(run, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = run("tiny", "--only", "anyprop-numpy", "--seconds", "0.01")
    assert code == 1
    assert re.fullmatch(r"benchmarks: .*results.json: No space left on device\.\n", err)
