"""What is published is what the committed results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.outcomes import Results
from benchmarks.tables import document

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "benchmarks" / "results").glob("*/results.json"))


def test_there_are_results():
    assert "cpu" in {path.parent.name for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.parent.name)
def test_tables_are_those_of_the_results(path):
    """If not, run `python -m benchmarks.render`."""
    tables = (path.parent / "tables.md").read_text(encoding="utf-8")
    assert tables == document(Results.load(path))
    assert (path.parent / "chart.png").exists()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.parent.name)
def test_nothing_failed_on_an_idle_machine(path):
    results = Results.load(path)
    machine = results.about["machine"]
    assert machine["load_before"] <= machine["cores"] / 2
    for outcome in results.outcomes:
        for name, entry in outcome.entries.items():
            assert entry.status != "failed", f"{outcome.name}, {name}: {entry.reason}"
