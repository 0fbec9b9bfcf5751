"""What everything needs and a library lacks: reported once, early, with a program that fails."""

from __future__ import annotations

import array_api_compat.numpy as reference
import numpy as np
import pytest

import anyprop as ap
from anyprop.testing.check_backend import choose
from anyprop.testing.contract import Check
from made_library import make_library


def _refusing(*args, **options):
    raise RuntimeError("no dense arrays here")


def _without_device(x, dtype=None, copy=None):
    return np.asarray(x, dtype)


def _library(name, **changed):
    """Create a library, and return it with the class of its arrays."""
    library = make_library(name, **changed)
    return library, type(library.ones(1))


def refuses_a_device_of_none():
    return _library("first_library", asarray=_without_device)[0]


def has_no_float32():
    return _library("first_library", float32=None)[0]


def cannot_be_read():
    library, of = _library("first_library")
    of.__array__ = _refusing
    return library


def reads_as_an_object():
    library, of = _library("first_library")
    del of.__array__
    return library


def belongs_to_another():
    library, of = _library("first_library")
    of.__array_namespace__ = lambda self, api_version=None: make_library("other_library")
    return library


def has_no_namespace():
    library, of = _library("first_library")
    del of.__array_namespace__
    return library


# How a library is broken, what its arrays cannot do, and what must be said.
CAUSES = [
    (refuses_a_device_of_none, "come from NumPy", "unexpected keyword argument 'device'"),
    (has_no_float32, "come from NumPy", "has no attribute 'float32'"),
    (
        cannot_be_read,
        "can be read by NumPy",
        "arrays cannot be read by NumPy (np.asarray raises RuntimeError: no dense arrays here).",
    ),
    (
        reads_as_an_object,
        "can be read by NumPy",
        "arrays cannot be read by NumPy (np.asarray gives object).",
    ),
    (belongs_to_another, "know their namespace", "the array belongs to other_library"),
    (has_no_namespace, "know their namespace", "is not a supported array type"),
]


@pytest.fixture(params=CAUSES, ids=lambda cause: cause[0].__name__)
def cause(request):
    make, lacking, said = request.param
    return make(), lacking, said


def test_it_is_said_once_with_a_program_that_fails(cause):
    library, lacking, said = cause
    report = ap.check_backend(library, only="*s/*", speed=True)
    (first,) = [o for o in report.of("failed") if o.id == f"arrays/{lacking}"]
    assert said in first.text
    assert len(report.faults()) <= 3  # some other checks of arrays fail for the same reason
    checks = [check.id for check in choose("*s/*") if isinstance(check, Check)]
    assert [o.id for o in report.of("not run")] == checks
    assert not report.passed
    text = str(report)
    assert f"not run ({len(checks)} checks): it needs arrays that {lacking}." in text
    assert f"{len(checks)} not run" in text.splitlines()[-1]
    assert "float64 was not checked" not in text
    for outcome in report.of("failed"):
        with pytest.raises((AssertionError, AttributeError, RuntimeError, TypeError)):
            exec(outcome.reproducer, {})
        make_library("sound_library")
        exec(outcome.reproducer.replace("first_library", "sound_library"), {})


def test_it_is_said_where_only_other_checks_are_asked_for(cause):
    library, lacking, _ = cause
    first, asked = ap.check_backend(library, only="losses/huber", speed=False).outcomes
    assert (first.id, first.status) == (f"arrays/{lacking}", "failed")
    assert (asked.id, asked.status) == ("losses/huber", "not run")


def test_a_slow_library_is_not_asked_for_more():
    calls = []

    def slow(x, *args, **options):
        calls.append(x)
        return reference.asarray(x, *args, **options)

    library, of = _library("first_library", asarray=slow)
    of.__array_namespace__ = lambda self, api_version=None: make_library("other_library")
    assert not ap.check_backend(library).passed
    assert len(calls) < 50


def test_what_is_read_in_another_way_need_not_be_read_by_numpy():
    library, of = _library("first_library")
    data = of.__array__
    of.__array__ = _refusing
    of.__dlpack__ = lambda self, **options: data(self).__dlpack__(**options)
    of.__dlpack_device__ = lambda self: data(self).__dlpack_device__()
    report = ap.check_backend(library, only="*/[chr]*", speed=False)
    assert report.passed, str(report)


def test_without_a_device_the_cause_is_said_once():
    """Activations need none, so they run."""
    library, of = _library("first_library")
    del of.__getattr__
    for name in ("shape", "dtype", "ndim", "size", "T"):
        setattr(of, name, property(lambda self, name=name: getattr(self.data, name)))
    report = ap.check_backend(library, speed=False)
    assert len(report.of("passed")) > 20
    first, *others = report.faults()
    assert first[0].id == "arrays/are made beside others"
    assert "has no attribute 'device'" in first[0].text
    assert len(first) > 50
    assert not others


def test_namespaces_that_are_no_module_can_be_checked():
    library, of = _library("first_library", exp=lambda x: x)

    class Wrapper:
        __name__ = "first_library"

        def __getattr__(self, name):
            return getattr(library, name)

    wrapper = Wrapper()
    of.__array_namespace__ = lambda self, api_version=None: wrapper
    report = ap.check_backend(wrapper, only="layers/[TS]*()", speed=False)
    assert {o.id for o in report.of("passed")} == {"layers/Tanh()"}, str(report)
    for outcome in report.of("failed"):
        assert outcome.reproducer.startswith("# xp is first_library\n")
        with pytest.raises(AssertionError):
            exec(outcome.reproducer, {"xp": wrapper})


def test_a_program_does_not_import_another_module_of_the_same_name():
    library, _ = _library("first_library", exp=lambda x: x)
    library.__name__ = "json"
    (outcome,) = ap.check_backend(library, only="layers/Sigmoid()", speed=False).outcomes
    assert outcome.reproducer.splitlines()[0] == "# xp is json"
    with pytest.raises(AssertionError):
        exec(outcome.reproducer, {"xp": library})
