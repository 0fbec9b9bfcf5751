"""The contract as tests: ``ANYPROP_BACKEND=ndonnx pytest --pyargs anyprop.testing``.

``ANYPROP_BACKEND`` names a backend or any module, NumPy by default; ``ANYPROP_DEVICE`` a device. What
the library lacks and training does not need is not a failure.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from anyprop.testing.check_backend import Here, choose, outcomes_of
from anyprop.testing.contract import Check
from anyprop.testing.one_check import FAILED
from anyprop.testing.snippets import Snippet


def pytest_generate_tests(metafunc: Any) -> None:
    """Parametrize the test with each check."""
    metafunc.parametrize("check", choose(), ids=lambda check: check.id)


@cache
def _library() -> Here:
    name = os.environ.get("ANYPROP_BACKEND") or "numpy"
    return Here(name, os.environ.get("ANYPROP_DEVICE") or None)


def test_contract(check: Check | Snippet) -> None:
    """Run a check; a failure shows the reproducer."""
    outcome, *_ = outcomes_of([check], _library(), lambda name: None)
    if outcome.status == FAILED:
        raise AssertionError(f"{outcome.text}\n\n{outcome.reproducer}")
