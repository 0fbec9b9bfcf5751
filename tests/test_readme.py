"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from anyprop.cli._main import make_parser

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_its_program_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYPROP_BACKEND", raising=False)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    program = "\n".join(block for block in blocks if "cupy" not in block)
    names: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), names)
    (accuracy,) = re.findall(r"accuracy=([\d.]+)", capsys.readouterr().out)
    assert float(accuracy) > 0.96
    assert (tmp_path / "loss.png").stat().st_size > 10_000


def test_what_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).exists(), link


def test_its_commands_are_understood():
    commands = re.findall(r"`(?:\w+=\w+ )?anyprop ([^`]+)`", README)
    assert len(commands) >= 5
    for command in commands:
        make_parser().parse_args(command.replace("my_library", "numpy").split())


def test_what_is_said_of_cupy_first_says_that_it_has_not_been_run_on_a_gpu():
    assert re.search(r"CuPy.{5,30}", README, re.DOTALL)[0].startswith("CuPy (not run on a GPU yet)")
