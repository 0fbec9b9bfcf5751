"""Run the blocks of pages, word for word and in order, as a reader would who types them.

    python tools/run_pages.py README.md docs/start/install.md

A page's Python shares one namespace: blocks `python` and `{run}`, and the examples of `{doctest}`,
whose output is compared. Blocks `sh` are run by bash, but for README's, which make the environment
that this runs in (`nox -s start`), or run the tests. A block `python` that names CuPy needs a GPU and is
left out.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A block of a page: its kind, its text, and the line that it begins at."""

    kind: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """Return a page's fenced blocks, without the options at their heads."""
    found = []
    for match in re.finditer(r"^(`{3,})(\S+)[^\n]*\n(.*?)^\1$", page, re.DOTALL | re.MULTILINE):
        text = re.sub(r"\A(:[\w-]+:.*\n)+", "", match[3])
        found.append(Block(match[2], text, page.count("\n", 0, match.start()) + 2))
    return found


def run(path: Path) -> int:
    """Run a page; return how many of its blocks were run."""
    names: dict[str, object] = {"__name__": "__main__"}
    count = 0
    for block in blocks(path.read_text(encoding="utf-8")):
        where = f"{path}, line {block.line}"
        if block.kind == "sh" and not path.name.startswith("README"):
            subprocess.run(["bash", "-euc", block.text], check=True)
        elif block.kind == "{run}" or (block.kind == "python" and "cupy" not in block.text):
            exec(compile(block.text, where, "exec"), names)
        elif block.kind == "{doctest}":
            examples = doctest.DocTestParser().get_doctest(block.text, names, where, where, 0)
            # Not a copy, so that the next block sees what this one names.
            examples.globs = names
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            if runner.run(examples, clear_globs=False).failed:
                raise SystemExit(f"{where}: the output is another")
        else:
            continue
        count += 1
    return count


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(f"{argument}: {run(Path(argument))} blocks ran")
