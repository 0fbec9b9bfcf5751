"""`anyprop check`: exit codes, the table, and the file."""

from __future__ import annotations

import json

import pytest

from anyprop.testing.report import BackendReport


def test_a_library_that_passes(run, tmp_path):
    path = tmp_path / "numpy.json"
    code, out, err = run("check", "--only", "losses/*", "--no-speed", "--json", str(path))
    assert (code, err) == (0, "")
    assert "losses  15 of 15  0               0" in out
    assert out.splitlines()[-1] == "15 checks passed, 0 failed"
    assert str(BackendReport.from_dict(json.loads(path.read_text()))) == out.rstrip("\n")


def test_a_library_that_fails(run, tmp_path, monkeypatch):
    (tmp_path / "borrowed_library_2.py").write_text("from array_api_strict import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run("check", "borrowed_library_2", "--only", "arrays/know*", "--no-speed")
    assert (code, err) == (1, "")
    assert "    import borrowed_library_2 as xp\n" in out
    assert out.splitlines()[-1] == "0 checks passed, 1 failed"


def test_checks_are_listed(run):
    code, out, err = run("check", "--only", "losses*/huber", "--list")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["losses/huber", "losses of few rows/huber"]


def test_a_link_to_a_file_that_is_not_there_yet_stays(run, tmp_path):
    link, file = tmp_path / "link.json", tmp_path / "file.json"
    link.symlink_to(file)
    assert run("check", "--json", str(link), "--list")[0] == 0
    assert link.is_symlink()
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["numpi"], "unknown array library 'numpi'; did you mean 'numpy'?"),
        (["numpy", "--device", "gpu"], "numpy has no device 'gpu' here; choose one of: cpu."),
        (
            ["numpy", "--only", "loses/*"],
            "no check is called 'loses/*'; the nearest are losses/*, layers/*, losses/huber; "
            "`anyprop check --list` lists all.",
        ),
        (["math"], "math is not an Array API namespace; pass a module such as numpy."),
        (["numpy", "--json", "no/where.json"], "no/where.json: No such file or directory."),
    ],
)
def test_wrong_calls(run, words, sentence):
    assert run("check", *words) == (2, "", f"anyprop: {sentence}\n")
