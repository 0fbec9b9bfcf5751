"""`ap.check_backend` and the tests that others can run, on the backends under test."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import pytest

import anyprop as ap
from anyprop.testing.check_backend import choose
from anyprop.testing.namespaces import namespace_named
from anyprop.testing.observing import ObservedNamespace
from anyprop.testing.place import Place
from anyprop.testing.report import BackendReport
from anyprop.testing.speed import step_seconds
from made_library import make_library

# JAX compiles every function for every shape: only a few of them here.
SOME = ["arrays/*", "losses/huber*", "optimizers/rmsprop", "layers/Tanh()", "compiled training/r*"]


@pytest.mark.parametrize("only", SOME)
def test_backends_keep_to_the_contract(only, backend):
    device = backend.device_name
    report = ap.check_backend(backend.xp, device=device, only=only, speed=False)
    assert report.passed, str(report)
    lacking = {o.id for o in report.of("lacking")}
    assert lacking <= ({"arrays/can be assigned to"} if backend.name == "jax" else set())
    assert report.name == backend.name
    assert report.version


def test_names_of_checks_are_unique():
    names = [check.id for check in choose()]
    assert len(names) == len(set(names)) > 150


def test_an_unknown_check_is_not_answered_by_the_names_of_all():
    with pytest.raises(
        ValueError, match="no check is called 'layer/x'; the nearest are layers/"
    ) as e:
        choose("layer/x")
    assert len(str(e.value)) < 150
    with pytest.raises(ValueError, match=r"'\?\?'; `anyprop check --list` lists all\.$"):
        choose("??")


@pytest.mark.parametrize(
    ("only", "ids"),
    [
        ("optimizers/SGD", ["optimizers/sgd"]),
        ("LOSSES/huber", ["losses/huber"]),
        ("layers/relu()", ["layers/ReLU()"]),
        ("layers/TANH*", ["layers/Tanh()"]),
    ],
)
def test_checks_are_chosen_in_capital_and_small_letters(only, ids):
    assert [check.id for check in choose(only)] == ids


def test_a_pattern_in_capital_letters_chooses_what_one_in_small_letters_does():
    assert choose("optimizers/SGD*") == choose("optimizers/sgd*") != []


def test_a_library_without_float64_is_told_so():
    library = make_library("narrow_library", float64=None)
    report = ap.check_backend(library, only="losses/huber", speed=False)
    assert report.not_run == {"float64": "narrow_library has no float64."}
    assert report.outcomes[0].ulps.keys() == {"float32"}


def test_a_lazy_library_need_not_compute_all_that_went_before_at_each_call():
    library = make_library("lazy_library")
    xp = ObservedNamespace(Place(library), lambda call, verdict: None)
    x = xp.asarray([1.0, 2.0], dtype=xp.float32)
    for _ in range(50):
        x = 0.5 * xp.exp(x) + x[0]
        x = x / xp.sum(x)
    assert abs(float(xp.sum(x)) - 1.0) < 1e-6
    assert len(library.reads) > 250
    assert max(library.reads) <= 3


def test_a_report_can_be_kept(backend):
    report = ap.check_backend(backend.xp, only="losses/huber", speed=False)
    kept = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert kept["passed"] is True
    assert BackendReport.from_dict(kept) == report
    assert report.calls["xp.maximum"].keys() == {"float32", "float64"}


def test_speed_is_a_ratio():
    report = ap.check_backend("numpy", only="losses/huber")
    assert 0.1 < report.speed < 10.0
    assert "times as long as NumPy's" in str(report)


def test_a_step_is_timed_for_seconds_at_most(monkeypatch):
    clock = itertools.count()  # a second passes between any two looks at it
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    assert step_seconds(Place("numpy")) == 1.0
    assert next(clock) < 20


def test_a_library_that_cannot_train_is_not_timed():
    report = ap.check_backend(make_library("my_library", exp=None), only="losses/huber")
    assert report.passed
    assert report.speed is None
    assert "times as long" not in str(report)


@pytest.mark.needs("jax")
def test_without_float64_the_rest_is_checked():
    """JAX is in its 64-bit mode in this process."""
    code = "import anyprop as ap; print(ap.check_backend('jax', only='losses/huber', speed=False))"
    env = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "1 checks passed, 0 failed" in done.stdout, done.stderr
    assert (
        "float64 was not checked: JAX holds float64 arrays only in its 64-bit mode" in done.stdout
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dask.arry", "unknown array library 'dask.arry'; did you mean 'dask.array'"),
        ("json.decoders", "unknown array library 'json.decoders'"),
        ("numpyy", "did you mean 'numpy'"),
        ("json", "json is not an Array API namespace"),
    ],
)
def test_names_that_are_no_namespace(name, words):
    with pytest.raises((ValueError, TypeError), match=words):
        namespace_named(name)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import something_that_is_not_there", "No module named 'something_that_is_not_there'"),
        ("raise OSError('wrong ELF class')", "OSError: wrong ELF class"),
    ],
)
def test_a_module_that_cannot_be_imported(line, words, tmp_path, monkeypatch):
    (tmp_path / "needy_library.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=f"^importing needy_library failed: {words}\\.$"):
        namespace_named("needy_library")


def _pytest(folder, backend, *words):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    env = {**os.environ, "ANYPROP_BACKEND": backend}
    env["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [env.get("PYTHONPATH")])])
    return subprocess.run(
        [*command, "--pyargs", "anyprop.testing", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=env,
    )


def test_others_can_run_the_contract_with_pytest(tmp_path):
    done = _pytest(tmp_path, "array_api_strict", "-k", "losses/huber or DLPack")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_and_see_what_fails(tmp_path):
    (tmp_path / "borrowed_library.py").write_text("from array_api_strict import *\n")
    done = _pytest(tmp_path, "borrowed_library", "-k", "losses/huber-narrow")
    assert done.returncode == 1
    assert "the array belongs to array_api_strict" in done.stdout
    assert "import borrowed_library as xp" in done.stdout
