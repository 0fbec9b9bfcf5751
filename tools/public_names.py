"""Write what follows from the table of public names, `src/anyprop/_names.py`.

    python tools/public_names.py

writes the files ``__init__.pyi``, the lists of names in docs/reference and the indexes of the
derivations. A list of the reference is between two comments,

    <!-- public names: optimizers -->  ...  <!-- end -->

and so are the rows of an index, whose head is kept. The cells of a row are in the first lines of the
derivation that it leads to:

    <!-- rows: optimizers: step, slots -->      ---
    | optimizer | step | slots |                step: 'what is in the row'
    |---|---|---|                               slots: '1'
    ...                                         ---
    <!-- end -->
"""

from __future__ import annotations

import re
from pathlib import Path

from anyprop._names import MODULES, PUBLIC, members, names_of

ROOT = Path(__file__).parent.parent
PACKAGES = ("anyprop", "anyprop.interchange", "anyprop.schedules")
WIDEST = 100


def files() -> dict[Path, str]:
    """Return the text of every file that follows from the table."""
    made = {}
    for package in PACKAGES:
        folder = ROOT / "src" / package.replace(".", "/")
        made[folder / "__init__.pyi"] = stub(package)
    for page in sorted((ROOT / "docs").glob("reference/*.md")):
        made[page] = re.sub(
            r"(<!-- public names: (.*?) -->\n).*?(<!-- end -->)",
            lambda found: f"{found[1]}{listed(found[2].split(', '))}{found[3]}",
            page.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
    for page in sorted((ROOT / "docs").glob("derivations/*/index.md")):
        made[page] = re.sub(
            r"(<!-- rows: ([^:\n]*): ([^\n]*) -->\n\n(?:\|[^\n]*\n){2}).*?(<!-- end -->)",
            lambda found: f"{found[1]}{rows(page.parent, *found.group(2, 3))}{found[4]}",  # noqa: B023
            page.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
    return made


def stub(package: str) -> str:
    """Write the imports that show a package's public names to type checkers."""
    by_module: dict[str, list[str]] = {}
    for name, module in names_of(package).items():
        by_module.setdefault(module, []).append(name)
    lines = []
    if package == "anyprop":
        lines += imports("anyprop", list(MODULES))
    for module, names in sorted(by_module.items()):
        lines += imports(module, names)
    if package == "anyprop":
        lines += ["", "__version__: str"]
    return "\n".join(lines) + "\n"


def imports(module: str, names: list[str]) -> list[str]:
    """Write one import as ruff would format it."""
    names = sorted(names, key=lambda name: (name.islower(), not name.isupper(), name))
    aliases = [f"{name} as {name}" for name in names]
    line = f"from {module} import {', '.join(aliases)}"
    if len(line) <= WIDEST:
        return [line]
    return [f"from {module} import (", *(f"    {alias}," for alias in aliases), ")"]


def listed(parts: list[str]) -> str:
    """Write a summary of the names of some parts of the table."""
    package = f"anyprop.{parts[0]}"
    if not names_of(package) or package not in PACKAGES:
        package = "anyprop"
    names = (
        name for part in parts for defined in PUBLIC[part].values() for name in defined.split()
    )
    lines = "\n".join(f"   {name}" for name in names)
    return (
        "\n```{eval-rst}\n"
        f".. currentmodule:: {package}\n\n"
        ".. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n"
        f"{lines}\n```\n\n"
    )


def rows(folder: Path, parts: str, keys: str) -> str:
    """Write the rows of an index, and the list of its pages."""
    found = {stem: of for part in parts.split(", ") for stem, of in members(part).items()}
    lines = []
    for stem, of in found.items():
        cells = front_matter(folder / f"{stem}.md")
        absent = [key for key in keys.split(", ") if key not in cells]
        if absent:
            raise ValueError(
                f"{folder.name}/{stem}.md lacks {', '.join(absent)} in its first lines"
            )
        inner = " | ".join(cells[key] for key in keys.split(", "))
        lines.append(f"| [{of.__name__}]({stem}.md) | {inner} |".replace("|  |", "| |"))
    toctree = ["", "```{toctree}", ":hidden:", "", *found, "```", "", ""]
    return "\n".join(lines + toctree)


def front_matter(page: Path) -> dict[str, str]:
    """Read ``key: 'value'`` from the lines between the first two ``---`` of a page."""
    found = re.match(r"---\n(.*?)\n---\n", page.read_text(encoding="utf-8"), re.DOTALL)
    pairs = re.findall(r"^(\w+): '(.*)'$", found[1] if found else "", re.MULTILINE)
    return {key: value.replace("''", "'") for key, value in pairs}


if __name__ == "__main__":
    for path, text in files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
