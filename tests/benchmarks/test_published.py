"""What is published is what the committed results say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import growth
from benchmarks.outcomes import Results
from benchmarks.tables import document, is_busy
from benchmarks.workloads import BATCHES, WIDTHS

ROOT = Path(__file__).parents[2]
FIGURES = ("long_run", "streams")
PROVISIONAL = ()
PATHS = sorted((ROOT / "benchmarks" / "results").glob("*/results.json"))


def test_there_are_results():
    assert "cpu" in {path.parent.name for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.parent.name)
def test_tables_are_those_of_the_results(path):
    """If not, run `python -m benchmarks.render`."""
    tables = (path.parent / "tables.md").read_text(encoding="utf-8")
    assert tables == document(Results.load(path))
    assert (path.parent / "chart.png").exists()


def test_what_grows_was_measured_at_every_point():
    results = Results.load(growth.FOLDER / "results.json")
    assert [outcome.name for outcome in results.outcomes] == [*WIDTHS, *BATCHES]
    assert all(set(outcome.timings) == set(growth.LINES) for outcome in results.outcomes)


def test_figures_in_the_readme_are_those_of_the_results():
    text = " ".join((ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").split())
    of = {
        name: json.loads((ROOT / f"benchmarks/results/{name}.json").read_text()) for name in FIGURES
    }
    runs = of["long_run"]["runs"]
    grown = {
        way: max(run["grown_bytes"] for run in runs if run["way"] == way) / 1024
        for way in ("compiled", "eager")
    }
    slower = math.ceil(100 * max(run["ratio"] for run in runs) - 100)
    shares = [100 * run["subnormal"] for run in runs]
    assert f"at most {grown['compiled']:.0f} KiB with compiled steps" in text
    assert f"at most {grown['eager']:.0f} KiB with eager ones" in text
    assert f"slower by more than {slower} %" in text
    assert f"{math.floor(min(shares))} to {math.ceil(max(shares))} % of what" in text

    epochs, more = of["streams"]["epochs"], of["streams"]["growth"]
    mapped, unpacked = (
        {name: e[way]["seconds"] / e["memory"]["seconds"] for name, e in epochs.items()}
        for way in ("memmap", "hdf5")
    )
    share = 100 * epochs["numpy"]["memmap"]["megabytes"] / epochs["numpy"]["memory"]["megabytes"]
    assert f"{mapped['numpy']:.2f} times as long on NumPy, with {share:.0f} % of" in text
    assert f"and {mapped['jax']:.2f} on JAX" in text
    assert f"HDF5 {unpacked['numpy']:.2f} and {unpacked['jax']:.2f};" in text
    assert f"need {more['numpy']:.0f} and {more['jax']:.0f} MB more" in text


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.parent.name)
def test_nothing_failed_on_an_idle_machine(path):
    results = Results.load(path)
    assert path.parent.name in PROVISIONAL or not is_busy(results.about["machine"])
    for outcome in results.outcomes:
        for name, entry in outcome.entries.items():
            assert entry.status != "failed", f"{outcome.name}, {name}: {entry.reason}"
