"""How the tests are run: what is on their path, and without what they do, too."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.test_imports import EXTRAS, LATE, OUTSIDE

ROOT = Path(__file__).parents[1]


def test_no_folder_on_the_path_hides_that_a_library_is_missing():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    paths = settings["pytest"]["ini_options"]["pythonpath"]
    there = {path.stem for folder in paths for path in (ROOT / folder).iterdir()}
    libraries = (
        OUTSIDE | LATE | set().union(*EXTRAS.values()) | {"array_api_strict", "optax", "keras"}
    )
    assert "arrays" in there
    assert not there & libraries


def test_they_run_without_a_cache(tmp_path):
    command = ["pytest", "-q", "-p", "no:cacheprovider", "tests/test_text.py"]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
