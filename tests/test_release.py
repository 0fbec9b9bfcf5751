"""The version is written in several places, and is the same in all."""

import re
import tomllib
from pathlib import Path

import anyprop as ap

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def test_the_module_tells_the_version_that_is_installed():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", ap.__version__)


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\n" in citation


def test_a_version_that_is_released_has_its_changes_listed_and_a_date():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", changes, re.MULTILINE)
    assert VERSION.partition(".dev")[0] in dict(released) or ".dev" in VERSION
