"""What the README shows, in English and in Japanese, runs as printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from anyprop.cli._main import make_parser

ROOT = Path(__file__).parent.parent
READMES = ["README.md", "README.ja.md"]
CUPY = {
    "README.md": "CuPy (not run on a GPU yet)",
    "README.ja.md": "CuPy（GPU ではまだ実行していません）",
}


@pytest.fixture(params=READMES)
def readme(request):
    return (ROOT / request.param).read_text(encoding="utf-8")


def test_its_program_runs(readme, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYPROP_BACKEND", raising=False)
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    program = "\n".join(block for block in blocks if "cupy" not in block)
    names: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), names)
    (accuracy,) = re.findall(r"accuracy=([\d.]+)", capsys.readouterr().out)
    assert float(accuracy) > 0.96
    assert (tmp_path / "loss.png").stat().st_size > 10_000


def test_what_it_links_to_is_there(readme):
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def commands(text: str) -> list[str]:
    return re.findall(r"`(?:\w+=\w+ )?anyprop ([^`]+)`", text)


def test_its_commands_are_understood():
    english, japanese = (commands((ROOT / name).read_text(encoding="utf-8")) for name in READMES)
    assert len(english) >= 5
    for command in english + japanese:
        make_parser().parse_args(command.replace("my_library", "numpy").split())


@pytest.mark.parametrize("name", READMES)
def test_what_is_said_of_cupy_first_says_that_it_has_not_been_run_on_a_gpu(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.search(r"CuPy.{5,30}", text, re.DOTALL)[0].startswith(CUPY[name])


def test_the_two_have_the_same_commands_and_numbers():
    english, japanese = ((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    assert set(commands(japanese)) <= set(commands(english))
    shell, shares = r"^```sh\n.*?^```", r"[\d.]+ %"
    assert re.findall(shell, japanese, re.DOTALL | re.M) == re.findall(
        shell, english, re.DOTALL | re.M
    )
    assert set(re.findall(shares, japanese)) == set(re.findall(shares, english))


def test_its_comparison_is_that_of_the_committed_sweep(readme):
    runs = json.loads((ROOT / "docs" / "article" / "sweep.json").read_text(encoding="utf-8"))[
        "runs"
    ]
    found = {(r["optimizer"], r["lr"]): r["test_accuracy"] for r in runs if r["seed"] == 8}
    caption = readme[readme.index("anyprop compare rmsprop:0.1") :].partition("\n\n")[0]
    assert re.findall(r"[\d.]+ %", caption) == [
        f"{100 * found[of]:.1f} %" for of in (("RMSProp", 0.001), ("AdaGrad", 0.1))
    ]


def test_each_links_to_the_other():
    english, japanese = ((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    assert "](README.ja.md)" in english.partition("\n## ")[0]
    assert "](README.md)" in japanese.partition("\n## ")[0]
