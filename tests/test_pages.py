"""What runs a page's blocks runs each of them, as it is."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = """
```{run}
:hide-code:
x = 1
```

````python
y = x + 1
````

```python
import cupy
```

```sh
echo typed > told
```

```{doctest}
>>> y
2
>>> z = y

```

```{doctest}
>>> z
2

```
"""


@pytest.fixture
def run_pages():
    spec = importlib.util.spec_from_file_location("run_pages", ROOT / "tools" / "run_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(run_pages):
    return run_pages.run


def test_all_blocks_of_a_page_in_their_order(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert run(page) == 5
    assert (tmp_path / "told").read_text() == "typed\n"


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (PAGE.replace(">>> y\n2", ">>> y\n3"), SystemExit),
        (PAGE.replace("echo typed", "false"), subprocess.CalledProcessError),
        (PAGE.replace("x + 1", "absent"), NameError),
    ],
)
def test_a_block_that_does_not_do_what_it_says_ends_the_run(
    page, error, run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(error):
        run(tmp_path / "page.md")


def test_readme_and_start_pages_have_no_other_kind_of_block():
    """So that `nox -s start`, which runs them, leaves out none; README's `sh` it runs itself."""
    pages = [*ROOT.glob("README*.md"), *(ROOT / "docs" / "start").glob("*.md")]
    for page in pages:
        kinds = re.findall(r"^`{3,}(\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert kinds
        assert set(kinds) <= {"sh", "python", "{run}", "{doctest}", "{table}", "{toctree}"}, page


INCLUDED = re.compile(r"^```\{literalinclude\} (\S+)\n((?::.*\n)*)", re.MULTILINE)
PATTERN = re.compile(r"^:(start-at|start-after|end-at|end-before): (\".*\")$", re.MULTILINE)


def test_pages_include_code_by_lines_that_it_has():
    """As the site's build finds them, which takes minutes."""
    missing, count = [], 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for path, options in INCLUDED.findall(page.read_text(encoding="utf-8")):
            lines = (page.parent / path).read_text(encoding="utf-8").splitlines()
            for option, quoted in PATTERN.findall(options):
                wanted, at = ast.literal_eval(quoted), option in ("start-at", "end-at")
                found = [i for i, line in enumerate(lines) if wanted in line]
                count += 1
                if not found:
                    missing.append(f"{page.relative_to(ROOT)}: {path} has no line {wanted!r}")
                elif option.startswith("start"):
                    lines = lines[found[0] + (not at) :]
    assert count > 50
    assert not missing


IMPORTED = {"ap", "math", "np", "plt", "torch"}


def program(block):
    """Return a block's Python, or nothing."""
    if block.kind == "{doctest}":
        examples = doctest.DocTestParser().get_examples(block.text)
        return "".join(example.source for example in examples)
    return block.text if block.kind in {"{run}", "python"} else ""


def test_a_page_imports_what_its_blocks_use(run_pages):
    """So that a reader can type them, from the first to the last."""
    missing, count = [], 0
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        known = set()
        for block in run_pages.blocks(page.read_text(encoding="utf-8")):
            nodes = list(ast.walk(ast.parse(program(block))))
            names = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
            known |= {alias.asname or alias.name for node in names for alias in node.names}
            used = {node.id for node in nodes if isinstance(node, ast.Name)}
            count += len(IMPORTED & used)
            missing += [
                f"{page.relative_to(ROOT)}, line {block.line}: {name}"
                for name in sorted((IMPORTED & used) - known)
            ]
    assert count > 300
    assert not missing


def test_what_a_command_prints_is_made_while_the_site_is_built():
    """A block that is typed by hand holds commands alone."""
    copied, blocks = (
        [],
        re.compile(r"^```(?:console|text|none)\n(.*?)^```", re.DOTALL | re.MULTILINE),
    )
    for page in sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")]):
        lines = "".join(blocks.findall(page.read_text(encoding="utf-8"))).splitlines()
        copied += [
            f"{page.relative_to(ROOT)}: {line}" for line in lines if not line.startswith("$ ")
        ]
    assert not copied


@pytest.mark.needs("torch")
@pytest.mark.parametrize("page", ["docs/index.md", "docs/start/first-training.md"])
def test_one_line_moves_a_page_to_another_backend(page, run, tmp_path):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count('xp = "numpy"') == 1
    (tmp_path / "page.md").write_text(text.replace('xp = "numpy"', 'xp = "torch"'))
    run(tmp_path / "page.md")
