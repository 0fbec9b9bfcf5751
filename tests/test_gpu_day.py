"""The command of the first day on a GPU, with steps that need none."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _loaded():
    spec = importlib.util.spec_from_file_location("gpu_day", ROOT / "tools" / "gpu_day.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu_day = _loaded()


def _step(name, code, limit=60.0):
    return gpu_day.Step(name, f"What {name} proves.", ("-c", code), limit)


GOOD = _step("good", "import anyprop; print('anyprop is found'); print('3 passed in 1 s')")
BAD = _step("bad", "print('1 failed | 2 passed in 1 s'); print('and more'); raise SystemExit(1)")
# What a step starts ends with it, and so does what it prints to.
SLOW = _step(
    "slow",
    "import subprocess, sys, time\n"
    "print('begun', flush=True)\n"
    "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])",
    limit=1.0,
)
LAST = _step("last", "import os; print(os.environ['PYTHONPATH'])")


def _report(out):
    report = json.loads((out / "report.json").read_text())
    return report, {done["name"]: done for done in report["steps"]}


def test_a_failure_does_not_keep_the_next_step_from_being_run(tmp_path, capsys):
    began = time.monotonic()
    assert gpu_day.main(["--out", str(tmp_path)], [GOOD, BAD, SLOW, LAST]) == 1
    assert time.monotonic() - began < 50
    report, steps = _report(tmp_path)
    assert [done["passed"] for done in report["steps"]] == [True, False, False, True]
    assert steps["good"]["result"] == "3 passed in 1 s"
    assert steps["bad"]["result"] == "1 failed | 2 passed in 1 s"
    assert steps["bad"]["exit_code"] == 1
    assert steps["slow"]["result"] == "ended after 1 seconds"
    assert steps["slow"]["end"] == ["begun"]
    assert (tmp_path / "bad.log").read_text().endswith("and more\n")
    assert capsys.readouterr().out.splitlines()[-1].startswith("failed: bad, slow; see ")


def test_the_report_tells_what_was_run_and_on_what(tmp_path):
    gpu_day.main(["--out", str(tmp_path)], [GOOD, BAD])
    report, _ = _report(tmp_path)
    assert "numpy" in report["machine"]["versions"]
    assert report["machine"]["command"].startswith("python tools/gpu_day.py --out")
    text = (tmp_path / "report.md").read_text()
    assert "| good | What good proves. | passed: 3 passed in 1 s |" in text
    assert "| bad | What bad proves. | **failed**: 1 failed \\| 2 passed in 1 s |" in text
    assert "    and more\n" in text  # the end of what failed
    assert "anyprop is found" not in text


def test_it_ends_with_0_if_all_passed(tmp_path, capsys):
    assert gpu_day.main(["--out", str(tmp_path), "--only", "good"], [GOOD, BAD]) == 0
    assert [done["name"] for done in _report(tmp_path)[0]["steps"]] == ["good"]
    assert capsys.readouterr().out.splitlines()[-1].startswith("all passed; see ")


def test_wheels_of_what_is_missing_come_from_a_folder(tmp_path):
    """What is installed is not replaced: the wheel of it here is none."""
    wheel = tmp_path / "wheels" / "made_for_a_test-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("made_for_a_test.py", "ANSWER = 'it is there'\n")
        information = "made_for_a_test-1.0.dist-info"
        file.writestr(
            f"{information}/METADATA",
            "Metadata-Version: 2.1\nName: made-for-a-test\nVersion: 1.0\n",
        )
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        file.writestr(f"{information}/WHEEL", tag)
        file.writestr(f"{information}/RECORD", "")
    (wheel.parent / "numpy-0.1-py3-none-any.whl").write_text("no wheel")
    step = _step("asks", "import made_for_a_test, numpy; print(made_for_a_test.ANSWER)")
    out = tmp_path / "out"
    assert gpu_day.main(["--wheels", str(wheel.parent), "--out", str(out)], [step]) == 0
    assert _report(out)[1]["asks"]["result"] == "it is there"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--only", "good,best"], "there is no step 'best'; choose from: good, bad"),
        (["--wheels", "tests"], "tests has no wheels"),
    ],
)
def test_wrong_calls(argv, said, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        gpu_day.main(argv, [GOOD, BAD])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_what_is_missing_is_told_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_day, "NEEDED", ("numpy", "no_such_package"))
    gpu_day.main(["--out", str(tmp_path)], [GOOD])
    told = capsys.readouterr().out.splitlines()[0]
    assert told == "missing here, so that steps will fail: no_such_package; see --wheels"


def test_a_machine_that_cannot_be_described_does_not_end_it(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_day, "_asked", lambda code, environment: "no module named numpy")
    assert gpu_day.main(["--out", str(tmp_path)], [GOOD]) == 0
    assert "no module named numpy" in (tmp_path / "report.md").read_text()


def test_the_steps_name_what_is_there():
    names = [step.name for step in gpu_day.STEPS]
    assert len(set(names)) == len(names)
    for step in gpu_day.STEPS:
        assert step.proves.endswith(".")
        for part in step.command:
            path = part.removeprefix("--ignore=")
            assert not path.startswith("tests") or (ROOT / path).exists(), path


def test_every_test_that_needs_a_gpu_is_in_a_step():
    """By its folder, in a step that does not leave it out."""
    marked = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if 'needs("cupy")' in path.read_text() and path != Path(__file__)
    ]
    assert len(marked) > 2
    for path in marked:
        assert any(_takes(step.command, path) for step in gpu_day.STEPS), path


def _takes(command, path):
    if "pytest" not in command:
        return False
    within = [part for part in command if part.startswith("tests") and path.startswith(part)]
    left_out = [part.removeprefix("--ignore=") for part in command if part.startswith("--ignore=")]
    return bool(within) and not any(path.startswith(part) for part in left_out)


def test_the_first_step_says_why_there_is_no_gpu(tmp_path):
    """On a machine without one it fails, and its report says so."""
    (first, *_) = gpu_day.STEPS
    code = gpu_day.main(["--only", "availability", "--out", str(tmp_path)])
    _, steps = _report(tmp_path)
    assert bool(steps[first.name]["passed"]) == (code == 0)
    assert "Backend(name='cupy'" in steps[first.name]["result"]


def test_what_compares_pinned_copies_runs():
    """On NumPy, where there are none, with fewer examples."""
    code = gpu_day.PINNED.replace("100_000", "1_000")
    assert code != gpu_day.PINNED
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "numpy:cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bit for bit: True True True") == 2
