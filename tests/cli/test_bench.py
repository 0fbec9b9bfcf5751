"""`anyprop bench`: the right answers, whatever the speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyprop.benchmark.results import Outcome, Results
from anyprop.benchmark.workloads import WORKLOADS
from anyprop.cli import bench

PNG = b"\x89PNG\r\n\x1a\n"


def test_it_measures_and_writes(run):
    names = "anyprop-numpy,anyprop-numpy-compiled,numpy-book,floor-products,anyprop-cupy"
    code, out, err = run("bench", "tiny", "update-10k", "--only", names, "--seconds", "0.02")
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
    assert raw["command"] == f"anyprop bench tiny update-10k --only {names} --seconds 0.02"

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
    monkeypatch.setattr(bench, "describe", lambda words, device: about)
    _, out, _ = run("bench", "tiny", "--only", "torch-graph", "--seconds", "0.01")
    assert ("this machine is busy (its load is 7.2 on 2 cores): do not trust" in out) == busy


def test_wrong_numbers_are_exit_code_1(run, monkeypatch):
    monkeypatch.setattr("anyprop.benchmark.conduct.reference", lambda problem, optimizer: [-1.0])
    code, out, _ = run("bench", "tiny", "--only", "numpy-book", "--seconds", "0.01")
    assert code == 1
    assert "failed: plain NumPy, as the book writes it (its numbers differ" in out
    assert out.splitlines()[-1] == f"wrote results.json, tables.md into {Path('runs/bench')}"


def test_what_was_measured_before_ctrl_c_is_kept(run, monkeypatch):
    conduct, done = bench.conduct, []

    def interrupted(name, *args, **options):
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return conduct(name, *args, **options)

    monkeypatch.setattr(bench, "conduct", interrupted)
    code, _, err = run("bench", "tiny", "article", "--only", "numpy-book", "--seconds", "0.01")
    assert (code, err) == (130, "anyprop: interrupted.\n")
    results = Results.load(Path("runs/bench/results.json"))
    assert [outcome.name for outcome in results.outcomes] == ["tiny"]


@pytest.mark.parametrize(("device", "left_out"), [("cpu", {"huge", "training"}), ("cuda", set())])
def test_what_is_measured_if_nothing_is_named(device, left_out, run, monkeypatch):
    done = []

    def conduct(name, *args, **options):
        done.append(name)
        return Outcome(name, name, "step", 0.0, {})

    monkeypatch.setattr(bench, "conduct", conduct)
    code, _, _ = run("bench", "--device", device)
    assert code == 0
    assert set(WORKLOADS) - set(done) == left_out
