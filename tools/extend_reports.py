"""Run the checks that the reports in docs/how-to/checked lack, after a table of cases has grown.

    python tools/extend_reports.py

For each report only the new checks are run, with the library that is installed; outcomes of
checks that are no longer there are dropped. A library that is not installed is named, and its report
stays as it is.
"""

from __future__ import annotations

import dataclasses
import glob
import json
from pathlib import Path

from anyprop.backend import BackendUnavailableError
from anyprop.testing.check_backend import check_backend, choose
from anyprop.testing.report import BackendReport

REPORTS = Path(__file__).parent.parent / "docs" / "how-to" / "checked"


def extended(report: BackendReport, name: str) -> BackendReport:
    """Add the outcomes of new checks, all in the order of the checks."""
    outcomes = {outcome.id: outcome for outcome in report.outcomes}
    wanted = [check.id for check in choose()]
    for check in wanted:
        if check not in outcomes:
            (outcomes[check],) = check_backend(name, only=glob.escape(check), speed=False).outcomes
    return dataclasses.replace(report, outcomes=[outcomes[check] for check in wanted])


def main() -> None:
    """Extend all reports whose libraries are installed."""
    absent = []
    for path in sorted(REPORTS.glob("*.json")):
        report = BackendReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
        try:
            new = extended(report, report.name)
        except (BackendUnavailableError, ImportError, ValueError):
            absent.append(report.name)
            continue
        if new != report:
            path.write_text(json.dumps(new.to_dict(), indent=1) + "\n", encoding="utf-8")
            print(f"wrote {path.name}")
    if absent:
        print(f"not installed, their reports lack what is new: {', '.join(absent)}")


if __name__ == "__main__":
    main()
