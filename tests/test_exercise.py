"""CONTRIBUTING.md's exercise: an optimizer is its file, two lines and its page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_exercise_is_all_that_an_optimizer_needs(tmp_path):
    for part in ("src", "tests", "tools", "docs/reference", "docs/derivations", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        (tmp_path / part).parent.mkdir(exist_ok=True)
        copy(ROOT / part, tmp_path / part)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### An exercise")[2]
    source = tmp_path / "src" / "anyprop"
    (source / "optimizers" / "sign_sgd.py").write_text(
        re.search("```python\n(.*?)```", text, re.S)[1]
    )
    (page,) = re.findall("```md\n(.*?)```", text, re.DOTALL)
    (tmp_path / "docs/derivations/optimizers/sign_sgd.md").write_text(f"{page}\noptax_path(...)\n")
    for table, start in (("_names.py", "optimizers.sgd"), ("testing/optimizer_cases.py", "sgd")):
        (line,) = re.findall(rf'``("[\w.]*sign_sgd": .*?,)``[^`]*`{Path(table).name}`', text)
        lines = (source / table).read_text(encoding="utf-8")
        place = f'    "{start}":'
        assert lines.count(place) == 1
        (source / table).write_text(lines.replace(place, f"    {line}\n{place}"), encoding="utf-8")

    def run(*command: str) -> str:
        paths = {"PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=os.environ | paths,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "wrote docs/derivations/optimizers/index.md" in run("tools/public_names.py")
    assert "SignSGD as SignSGD" in (source / "__init__.pyi").read_text(encoding="utf-8")
    files = ("tests/contracts/test_optimizers.py", "tests/test_imports.py")
    tests = "sign_sgd or has_a_case or up_to_date or public_name or see_the_same"
    said = run("-m", "pytest", "-q", "-p", "no:xdist", "--backend=numpy", "-k", tests, *files)
    assert int(re.search(r"(\d+) passed", said)[1]) > 50
