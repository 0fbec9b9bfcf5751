"""The reports that the documentation shows are of the checks that there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyprop.testing.check_backend import choose
from anyprop.testing.report import BackendReport

PATHS = sorted((Path(__file__).parents[2] / "docs/how-to/checked").glob("*.json"))


OURS = {"numpy", "array_api_strict", "torch", "jax"}


def test_there_are_reports():
    assert {path.stem for path in PATHS} >= OURS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_report_is_of_all_checks(path):
    """If not, run `python tools/extend_reports.py`.

    Libraries that no other test needs may have been checked before the newest cases were added.
    """
    report = BackendReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
    ids = [outcome.id for outcome in report.outcomes]
    assert ids == [check.id for check in choose() if path.stem in OURS or check.id in ids]
    assert len(ids) >= 197
    assert report.version
