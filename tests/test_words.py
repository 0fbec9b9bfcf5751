"""Docstrings say what is returned, and some words that are not plain are used nowhere."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("src", "tests", "tools", "benchmarks", "docs/_ext")
PAGES = (
    "*.md",
    "docs/**/*.md",
    "benchmarks/*.md",
    "examples/**/*.py",
    "docs/_static/playground/*.js",
)

# "Return", "Return whether" and a verb for what is done, instead.
BEGINNINGS = re.compile(r"\W*(Give|Tell|Let)s?\b")

# "should", and the passive or the one who is meant, instead.
WORDS = re.compile(r"\b(shall|nobody|somebody)\b", re.IGNORECASE)

# file -> why it may use one of them
EXCEPTIONS = {"tests/test_words.py": "it lists the words"}


def sources():
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))


def test_docstrings_begin_with_what_is_done_or_returned():
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                if BEGINNINGS.match(first):
                    found.append(f"{path.relative_to(ROOT)}: {first}")
    assert not found, "\n".join(found)


def test_words_that_are_not_plain_are_not_used():
    pages = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    assert len(pages) > 80
    found = []
    for path in (*sources(), *pages):
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if WORDS.search(line) and name not in EXCEPTIONS:
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_the_words_are_recognized():
    assert BEGINNINGS.match("Gives the value.")
    assert not BEGINNINGS.match("Given a value, return it.")
    assert WORDS.search("What it Shall be.")
    assert not WORDS.search("shallow")
