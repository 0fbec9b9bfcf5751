"""One call, or one check, that gives what it should not: what is said, and the program that shows it."""

from __future__ import annotations

import re
import sys
import types

import numpy as np
import pytest

import anyprop as ap
from anyprop.testing import one_check, process
from anyprop.testing.calls import ATTRIBUTE, CONVERSION, FUNCTION, OPERATOR, Given, ObservedCall
from anyprop.testing.contract import Check
from anyprop.testing.judging import SHAPE, Fault
from anyprop.testing.namespaces import header
from anyprop.testing.observing import ObservedNamespace
from anyprop.testing.one_check import run_check
from anyprop.testing.place import Place
from anyprop.testing.reproducer import opening, repeated, write
from made_library import make_library

X = Given(np.asarray([[1.0, -2.0], [3.0, 4.0]]))
NUMBER = Given(np.asarray(2.0))


def of(form, name, *args, **kwargs):
    return ObservedCall(form, name, args, kwargs)


def _nobody(x):
    return types.SimpleNamespace(shape=x.shape, dtype=x.dtype, strange=True)


# what is changed, a call, and what must be said of it
WRONG = {
    "an index with an ellipsis": (
        {"__getitem__": lambda x, key: x[key] + 1},
        of(OPERATOR, "getitem", X, (Ellipsis, 0)),
        "x[...] gives 2.0 at [0]; NumPy gives 1.0",
    ),
    "a conversion": (
        {"__float__": lambda x: 1.0},
        of(CONVERSION, "float", NUMBER),
        "float(x) gives 1.0 instead of 2.0.",
    ),
    "a number for nan": (
        {"log": np.zeros_like},
        of(FUNCTION, "log", X),
        "xp.log gives 0.0 at [0, 1]; NumPy gives nan",
    ),
    "a number for an array": (
        {"sum": lambda x: float(x.sum())},
        of(FUNCTION, "sum", X),
        "xp.sum gives float instead of an array.",
    ),
    "an array of another library": (
        {"exp": lambda x: ap.get_namespace("array_api_strict").asarray(np.exp(x))},
        of(FUNCTION, "exp", X),
        "xp.exp gives an array of array_api_strict instead of wrong_library.",
    ),
    "an array of no library": (
        {"sqrt": _nobody},
        of(FUNCTION, "sqrt", NUMBER),
        "xp.sqrt: types.SimpleNamespace is not an Array API array",
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_told_and_shown(name):
    changed, call, said = WRONG[name]
    place = Place(make_library("wrong_library", **changed))
    fault = repeated(call, place)
    assert said in fault.text
    program = write(call, fault, place)
    with pytest.raises((AssertionError, TypeError)):
        exec(program, {})
    make_library("right_library")
    exec(program.replace("wrong_library", "right_library"), {})


@pytest.mark.parametrize("changed", [{}, {"matmul": lambda x, y: x}])
def test_what_numpy_cannot_do_either_is_no_fault(changed):
    place = Place(make_library("wrong_library", **changed))
    assert repeated(of(FUNCTION, "matmul", X, Given(np.ones((3, 1)))), place) is None


def test_a_namespace_that_cannot_be_imported_is_named_in_the_program():
    place = Place(make_library("hidden_library", exp=lambda x: x))
    del sys.modules["hidden_library"]
    call = of(FUNCTION, "exp", NUMBER)
    assert write(call, repeated(call, place), place).splitlines()[0] == "# xp is hidden_library"


def test_a_namespace_that_a_module_makes_is_imported_from_it(monkeypatch):
    made = types.ModuleType("maker.numpy")
    assert header(made) == ["# xp is maker.numpy"]
    monkeypatch.setitem(sys.modules, "maker", types.SimpleNamespace(numpy=made))
    assert header(made) == ["from maker import numpy as xp"]


def test_a_device_that_no_library_lists_is_written_by_its_name():
    place = Place(make_library("plain_library"), "cpu")
    assert opening(place, x64=False)[-1] == "device = 'cpu'"


def test_a_result_on_another_device_is_told_and_shown(monkeypatch):
    strict = ap.get_namespace("array_api_strict")
    exp = strict.exp
    monkeypatch.setattr(strict, "exp", lambda x: exp(x).to_device(strict.Device("CPU_DEVICE")))
    report = ap.check_backend(strict, device="device1", only="layers/Sigmoid()", speed=False)
    (outcome,) = report.outcomes
    assert outcome.call == "xp.exp"
    assert "gives an array on" in outcome.text
    with pytest.raises(AssertionError):
        exec(outcome.reproducer, {})
    monkeypatch.undo()
    exec(outcome.reproducer, {})


@pytest.mark.needs("jax")
def test_float64_of_jax_is_shown_in_its_64_bit_mode(monkeypatch):
    exp = ap.get_namespace("jax").exp
    monkeypatch.setattr("jax.numpy.exp", lambda x: exp(x) * (1 + 1e-6 * (x.dtype == "float64")))
    (outcome,) = ap.check_backend("jax", only="layers/Sigmoid()", speed=False).outcomes
    assert outcome.reproducer.startswith('import jax\njax.config.update("jax_enable_x64", True)\n')
    with pytest.raises(AssertionError):
        exec(outcome.reproducer, {})
    monkeypatch.undo()
    exec(outcome.reproducer, {})


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (3, "with exit code 3"),
        (-9, "by SIGKILL (exit code 137)"),
        (-99, "by signal 99 (exit code 227)"),
    ],
)
def test_how_a_process_ended_is_said_as_a_shell_does(code, said):
    assert process._how(code) == said


def test_other_numbers_are_given_to_every_array_of_a_call():
    call = of(FUNCTION, "concat", [X, X.host], axis=0).replace(lambda host: host[:1])
    (found,) = call.args
    assert [found[0].host.shape, found[1].shape] == [(1, 2), (1, 2)]
    assert call.kwargs == {"axis": 0}


def test_a_result_on_another_device_is_wrong():
    strict = ap.get_namespace("array_api_strict")
    found = strict.asarray(1.0, device=strict.Device("CPU_DEVICE"))
    one_check._check_place("y", found, Place(strict, "CPU_DEVICE"))
    with pytest.raises(one_check.WrongResultError, match="y is on .*, expected .*device1"):
        one_check._check_place("y", found, Place(strict, "device1"))


def test_an_attribute_is_shown_as_one():
    place = Place(make_library("turned_library"))
    call, fault = of(ATTRIBUTE, "T", X), Fault(SHAPE, "", expected=(3, 3))
    program = write(call, fault, place)
    with pytest.raises(AssertionError):
        exec(program, {})
    assert ".T\n" in program


def test_asking_for_what_no_library_has_is_no_fault():
    told = []
    xp = ObservedNamespace(Place("numpy"), lambda call, verdict: told.append(verdict))
    assert not hasattr(xp, "no_such_function")
    assert not told


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda xp: np.ones(2), "y belongs to numpy, expected my_library."),
        (lambda xp: xp.ones(2, dtype=xp.float64), "y is float64, expected float32."),
        (lambda xp: xp.ones((2, 1), dtype=xp.float32), r"y has shape \(2, 1\), expected \(2,\)."),
        (lambda xp: xp.zeros(2, dtype=xp.float32), r"y is 8.39e\+06 units in the last place"),
        (lambda xp: xp.no_such_function(2), "AttributeError: module 'my_library' has no attr"),
    ],
)
def test_a_wrong_result_whose_calls_cannot_be_watched(result, said):
    def run(place, dtype):
        xp = place.xp
        return {"y": xp.ones(2, dtype=xp.float32) if place.name == "numpy" else result(xp)}

    place = Place(make_library("my_library"))
    check = Check("some", "check", run, observable=False)
    outcome = run_check(check, place, ["float32"], {})
    assert outcome.status == "failed"
    assert re.search(said, outcome.text)
    assert outcome.reproducer.splitlines() == [
        "import anyprop as ap",
        "import my_library as xp",
        "report = ap.check_backend(xp, only='some/check', speed=False)",
        "assert report.passed, report",
    ]
