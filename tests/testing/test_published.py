"""The reports that the documentation shows are of the checks that there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyprop.testing.check_backend import choose
from anyprop.testing.report import BackendReport

PATHS = sorted((Path(__file__).parents[2] / "docs/how-to/checked").glob("*.json"))


def test_there_are_reports():
    assert {"numpy", "array_api_strict", "torch", "jax"} <= {path.stem for path in PATHS}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_report_is_of_all_checks(path):
    """If not, run `anyprop check LIBRARY --json docs/how-to/checked/LIBRARY.json`."""
    report = BackendReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
    assert [outcome.id for outcome in report.outcomes] == [check.id for check in choose()]
    assert report.version
