"""A console that refuses text fails no command that has done its work."""

import io
import os
import subprocess
import sys

import pytest

from anyprop.cli._printing import safe_printing

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")

COMMANDS = ["--help", "--version", "train --help", "backends --help"]


def shell(line, **env):
    anyprop = f"{sys.executable} -m anyprop"
    return subprocess.run(
        ["sh", "-c", line.replace("ANYPROP", anyprop)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("to", [">&-", "2>&-", "| true"])
def test_closed_streams(command, to):
    done = shell(
        f"(ANYPROP {command}; echo code $? >&3) 3>&1 {to}"
        if to[0] == "|"
        else f"ANYPROP {command} {to}"
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_full_disk_is_told():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = shell("ANYPROP --help > /dev/full")
    assert "cannot print: No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_console_without_unicode(command):
    done = shell(f"ANYPROP {command}", PYTHONIOENCODING="ascii", LANG="C")
    assert (done.returncode, done.stderr) == (0, "")


def test_letters_that_a_console_lacks_become_question_marks(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with safe_printing() as out:
        print("naïve")
        assert not out.refused()
    assert written.getvalue() == b"na?ve\n"


def test_a_full_disk_under_predict(run, images):
    run("train", "--data", images, "--steps", "2", "--hidden", "3")
    code, _, err = run(
        "predict", "runs/train/model.safetensors", "--data", images, "--out", "/dev/full"
    )
    assert code == 2
    assert err == "anyprop: cannot write /dev/full: No space left on device.\n"
