"""Checks in a process of their own: what a library that ends it leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from anyprop.testing.apart import Apart
from anyprop.testing.check_backend import Here, report_on

HEAD = """
import os, sys
import array_api_compat.numpy as reference
from made_library import make_library

calls = []
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a library that can be imported, in this process and in others; return its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def library(name, body):
        (tmp_path / f"{name}.py").write_text(HEAD + body)
        return name

    return library


def check(name, only, speed=False, **options):
    with Apart(name, **options) as runner:
        return report_on(runner, only=only, speed=speed)


def ends_as(program):
    """Run a program in a process of its own; return how it ended."""
    code = f"import sys; sys.path[:] = {sys.path!r}\n{program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode


# How exp ends the process, how that is said, and the process's code.
ENDS = [
    ("os.abort()", "by SIGABRT (exit code 134)", -signal.SIGABRT),
    ("os._exit(3)", "with exit code 3", 3),
    ("os._exit(0)", "with exit code 0", 0),
    ("os._exit(1)", "with exit code 1", 1),
    (
        'sys.stderr.write("free(): invalid size\\n"); sys.stderr.flush(); os.abort()',
        "by SIGABRT (exit code 134): free(): invalid size",
        -signal.SIGABRT,
    ),
]


@pytest.mark.parametrize(("statement", "said", "code"), ENDS)
def test_the_call_that_ends_the_process_is_named_and_shown(statement, said, code, write):
    name = write(
        "killer_library",
        f"def exp(x):\n    {statement}\n\nmake_library(__name__, exp=exp)",
    )
    report = check(name, "layers/[st]*()")
    assert [(o.id, o.status) for o in report.outcomes] == [
        ("layers/SiLU()", "failed"),
        ("layers/Sigmoid()", "failed"),
        ("layers/Tanh()", "passed"),
        ("layers/Softplus()", "failed"),
        ("layers/Softmax()", "not run"),
    ]
    first, second, *_, last = report.outcomes
    assert (first.call, first.text) == ("xp.exp", f"xp.exp ends the process {said}.")
    assert second.text == f"the process ended {said}."
    assert last.text == "the process ended in 3 others of its group."
    assert "check_backend" not in first.reproducer
    assert ends_as(first.reproducer) == code
    make_again = write("sound_library", "make_library(__name__)")
    survived = first.reproducer.replace(name, make_again) + "\nraise SystemExit(88)"
    assert ends_as(survived) == 88


def test_a_check_whose_calls_do_not_end_the_process_is_shown_whole(write):
    """The compiled step's calls cannot be watched."""
    body = """
def exp(x):
    if sys._getframe(2).f_code.co_filename.endswith("observing.py"):
        return reference.exp(x)
    os.abort()

make_library(__name__, exp=exp)
"""
    name = write("killer_library", body)
    (outcome,) = check(name, "losses/softmax-labels").outcomes
    assert outcome.status == "failed"
    assert "SIGABRT" in outcome.text
    assert ends_as(outcome.reproducer) == -signal.SIGABRT


def test_what_ends_the_process_only_after_others_is_said_and_not_shown(write):
    body = """
def exp(x):
    calls.append(x)
    if len(calls) > 60:
        os.abort()
    return reference.exp(x)

make_library(__name__, exp=exp)
"""
    report = check(write("killer_library", body), "l*/*")
    (first, *_) = report.of("failed")
    assert first.text == (
        "the process ended by SIGABRT (exit code 134). Alone, it does not end it, "
        "so no program shows it."
    )
    assert first.reproducer == ""
    assert len(report.of("passed")) > 30
    assert "import" not in str(report)


def test_a_check_of_arrays_may_end_the_process(write):
    body = "make_library(__name__, __float__=lambda x: os.abort())"
    report = check(write("killer_library", body), "arrays/*")
    failed = report.of("failed")
    assert "arrays/are read as numbers" in [o.id for o in failed]
    for outcome in failed:
        assert outcome.text == "this check ends the process by SIGABRT (exit code 134)."
        assert ends_as(outcome.reproducer) == -signal.SIGABRT


def test_what_everything_needs_may_end_the_process(write):
    name = write("killer_library", "make_library(__name__, asarray=lambda *a, **b: os.abort())")
    report = check(name, "losses/*", speed=True)
    (failed,) = report.of("failed")
    assert failed.id == "arrays/come from NumPy"
    assert ends_as(failed.reproducer) == -signal.SIGABRT
    assert {o.text for o in report.of("not run")} == {"it needs arrays that come from NumPy."}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("os.abort()", "importing killer_library ends the process by SIGABRT (exit code 134)."),
        ("raise SystemExit(5)", "importing killer_library ends the process with exit code 5."),
        ("import nothing_such", "importing killer_library failed: No module named 'nothing_such'."),
    ],
)
def test_a_library_that_cannot_be_imported_is_a_wrong_call(body, said, write, run):
    write("killer_library", body)
    assert run("check", "killer_library") == (2, "", f"anyprop: {said}\n")


def test_the_numbers_are_those_that_this_process_finds(write):
    name = write("plain_library", "print('a line of its own')\nmake_library(__name__)")
    report = check(name, "losses/h*")
    assert report.passed, str(report)
    here = report_on(Here(name), only="losses/h*", speed=False)
    assert report == here
    assert report.calls


def test_a_step_that_ends_the_process_is_not_timed(write):
    name = write("killer_library", "make_library(__name__, matmul=lambda x, y: os.abort())")
    report = check(name, "losses/huber", speed=True)
    assert report.passed
    assert report.speed is None


def test_the_command_keeps_what_it_found(write, run):
    name = write("killer_library", "make_library(__name__, exp=lambda x: os.abort())")
    code, out, err = run("check", name, "--only", "LAYERS/[ST]*()", "--no-speed")
    assert (code, err) == (1, "")
    assert "layers  1 of 5" in out
    assert "FAILED layers/SiLU()\nxp.exp ends the process by SIGABRT (exit code 134).\n" in out
    assert out.splitlines()[-1] == "1 checks passed, 3 failed, 1 not run"


def test_ctrl_c_shows_what_was_found(write, run, monkeypatch):
    asked = []
    run_check = Apart.run

    def interrupted(self, check):
        asked.append(check)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return run_check(self, check)

    monkeypatch.setattr(Apart, "run", interrupted)
    code, out, err = run(
        "check", write("plain_library", "make_library(__name__)"), "--only", "losses/*"
    )
    assert (code, err) == (130, "anyprop: interrupted.\n")
    assert "losses  2 of 15" in out
    assert "not run (13 checks): it was interrupted." in out
    assert out.splitlines()[-1] == "2 checks passed, 0 failed, 13 not run"


def test_a_library_inside_a_module_is_found_by_its_dotted_name(write, run):
    body = """
class place:
    inner = make_library("inner_library")

inner = make_library("maker_library.inner", exp=lambda x: x)
del sys.modules["maker_library.inner"]
"""
    write("maker_library", body)
    code, out, err = run("check", "maker_library.inner", "--only", "layers/sigmoid()", "--no-speed")
    assert (code, err) == (1, "")
    assert "    from maker_library import inner as xp\n" in out
    code, out, _ = run("check", "maker_library.place.inner", "--only", "layers/t*", "--no-speed")
    assert code == 0, out
    code, out, err = run("check", "maker_library.outer")
    assert (code, out) == (2, "")
    assert err.startswith("anyprop: unknown array library 'maker_library.outer'")
