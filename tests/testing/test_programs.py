"""A program is shown if it fails when it is run, and what does not fail alone is said to be so."""

from __future__ import annotations

import array_api_compat.numpy as reference
import numpy as np
import pytest

import anyprop as ap
from made_library import make_library


def test_a_call_that_fails_only_after_others_is_shown_with_its_check():
    armed = []

    def sub(x, y):
        armed.append(True)
        return x - y

    def exp(x):
        return reference.exp(x) + (1.0 if armed and armed.pop() else 0.0)

    library = make_library("moody_library", __sub__=sub, exp=exp)
    (outcome,) = ap.check_backend(library, only="layers/Softmax()", speed=False).outcomes
    assert (outcome.status, outcome.call) == ("failed", "xp.exp")
    assert outcome.text.endswith("This call alone does not fail, but its check does.")
    assert "check_backend" in outcome.reproducer
    armed.clear()
    with pytest.raises(AssertionError):
        exec(outcome.reproducer, {})


def test_a_check_is_shown_on_the_device_on_which_it_fails(monkeypatch):
    """The calls of a compiled step cannot be watched."""
    strict = ap.get_namespace("array_api_strict")
    exp = strict.exp

    def wrong(x):
        return exp(x) + (1.0 if x.device == strict.Device("device1") else 0.0)

    monkeypatch.setattr(strict, "exp", wrong)
    only = "compiled training/relu-rmsprop"
    (outcome,) = ap.check_backend(strict, device="device1", only=only, speed=False).outcomes
    assert "devices()[" in outcome.reproducer
    with pytest.raises(AssertionError):
        exec(outcome.reproducer, {})
    assert ap.check_backend(strict, only=only, speed=False).passed


def test_what_does_not_fail_again_is_said_and_not_shown():
    calls = []

    def exp(x):
        calls.append(x)
        return reference.exp(x) + (1.0 if len(calls) == 1 else 0.0)

    library = make_library("moody_library", exp=exp)
    report = ap.check_backend(library, only="layers/Sigmoid()", speed=False)
    (outcome,) = report.outcomes
    assert outcome.status == "failed"
    assert outcome.text.endswith("When it was run again, it did not fail.")
    assert outcome.reproducer == ""
    assert "import" not in str(report)


def test_a_program_names_arguments_that_are_none():
    def sum_(x, *, axis=None, dtype="float64", keepdims=False):
        if dtype is None:
            raise TypeError("dtype must be a dtype")
        return np.sum(x, axis=axis, keepdims=keepdims)

    library = make_library("strict_library", sum=sum_)
    for outcome in ap.check_backend(library, only="[lo]*s/*", speed=False).of("failed"):
        with pytest.raises((AssertionError, TypeError)):
            exec(outcome.reproducer, {})


def test_right_results_pass_though_their_calls_cannot_be_watched(monkeypatch):
    def refuse(*args):
        raise RuntimeError("no eyes")

    monkeypatch.setattr("anyprop.testing.one_check.ObservedNamespace", refuse)
    report = ap.check_backend("numpy", only="losses/huber", speed=False)
    assert report.passed
    assert (
        "passed, but (1 checks): its calls could not be watched: float64: RuntimeError: no eyes."
        in str(report)
    )


def test_ctrl_c_ends_all_checks():
    def exp(x):
        raise KeyboardInterrupt

    library = make_library("patient_library", exp=exp)
    report = ap.check_backend(library, only="layers/S*()", speed=False)
    assert [outcome.status for outcome in report.outcomes] == ["not run"] * 4
    assert {outcome.text for outcome in report.outcomes} == {"it was interrupted."}


@pytest.mark.parametrize(
    "error", [SystemExit(3), type("PanicException", (BaseException,), {})("index out of bounds")]
)
def test_what_is_no_exception_ends_one_check(error):
    def exp(x):
        raise error

    library = make_library("rusty_library", exp=exp)
    report = ap.check_backend(library, only="layers/S*()", speed=False)
    assert len(report.of("failed")) == len(report.outcomes) == 4
    ((first, *_),) = report.faults()
    assert first.text.startswith(f"it raises {type(error).__name__}: {error}")
