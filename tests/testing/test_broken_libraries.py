"""A library with one thing broken: the check names it, and its reproducer shows it and nothing else."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest

import anyprop as ap
from made_library import Late, make_library


class Strange(np.ndarray):
    """An array that the library hands out as it is, without its own class around it."""

    strange = True


def _above(x, y):
    """The larger of two, half a dozen of its last digits too large."""
    found = xp.maximum(x, y)
    return found + 2 * np.spacing(np.abs(found))


def _overwritten(x):
    result = xp.exp(x)
    x[...] = 0.0
    return result


def _sum(x, *, axis=None, keepdims=False, dtype=None):
    return xp.sum(x, axis=axis, dtype=dtype)


def _half(x, dtype, *, copy=True):
    return xp.astype(x, np.float64 if dtype == np.float32 else dtype, copy=copy)


def _unfinished(x):
    raise NotImplementedError("log1p is on our list")


def _one_too_far(x, key):
    if isinstance(key, slice) and key.start:
        key = slice(key.start - 1, key.stop - 1)
    return x[key]


def _late(x, *, axis=None, keepdims=False):
    found = xp.max(x, axis=axis, keepdims=keepdims)
    return found.view(Late) if x.size == 0 else found


def _of_all_rows(x, *, axis=None, keepdims=False):
    return xp.max(x, keepdims=keepdims) + 0.0 * xp.max(x, axis=axis, keepdims=keepdims)


# what is changed, what the check must name, the word that says how, and a check that uses it
BROKEN = {
    "sum ignores keepdims": ({"sum": _sum}, "xp.sum", "shape", "losses/softmax-labels"),
    "where upcasts": (
        {"where": lambda *a: xp.where(*a).astype("float64")},
        *("xp.where", "float64", "losses/softmax-labels"),
    ),
    "maximum is inexact": ({"maximum": _above}, "xp.maximum", "last place", "layers/ReLU()"),
    "astype has its own mind": ({"astype": _half}, "xp.astype", "float64", "layers/ReLU()"),
    "no expm1": ({"expm1": None}, "xp.expm1", "no attribute", "layers/ELU(alpha=1.0)"),
    "log1p raises": ({"log1p": _unfinished}, "xp.log1p", "on our list", "layers/Softplus()"),
    "exp writes": ({"exp": _overwritten}, "xp.exp", "writes", "layers/Sigmoid()"),
    "sqrt gives NumPy's": (
        {"sqrt": lambda x: np.sqrt(x).view(Strange)},
        *("xp.sqrt", "array", "layers/LayerNorm(d=4, eps=1e-05)"),
    ),
    "products are wide": (
        {"__mul__": lambda x, y: np.multiply(x, y, dtype="float64")},
        *("x * y", "float64", "layers/ReLU()"),
    ),
    "slices are shifted": (
        {"__getitem__": _one_too_far},
        *("x[...]", "instead of|NumPy gives", "layers/Affine(d=4, m=3, bias=True)"),
    ),
    "max ignores axis": ({"max": _of_all_rows}, "xp.max", "NumPy gives", "layers/Softmax()"),
    "comparisons are inverted": (
        {"__gt__": lambda x, y: ~(x > y)},
        *("x > y", "NumPy gives", "layers/ReLU()"),
    ),
    "max of nothing is an error, but late": (
        {"max": _late},
        *("xp.max", "after all", "layers of few rows/Softmax()"),
    ),
    "log gives nan": (
        {"log": lambda x: np.log(x) * np.nan},
        *("xp.log", "nan", "losses/softmax-labels"),
    ),
    "matmul is a transposed one": (
        {"matmul": lambda x, y: xp.matmul(y.T, x.T)},
        *("xp.matmul", "shape", "layers/Affine(d=4, m=3, bias=True)"),
    ),
}


@pytest.fixture(scope="module")
def sound():
    return make_library("sound_library")


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_and_shown(name, sound):
    changed, call, word, only = BROKEN[name]
    library = make_library("broken_library", **changed)
    report = ap.check_backend(library, only=only, speed=False)
    (outcome,) = report.outcomes
    assert not report.passed
    assert outcome.call == call
    assert any(part in outcome.text for part in word.split("|")), outcome.text
    lines = outcome.reproducer.splitlines()
    assert lines[0] == "import broken_library as xp"
    assert len(lines) <= 8
    assert max(map(len, lines)) <= 160
    with pytest.raises((AssertionError, AttributeError, NotImplementedError, ValueError)):
        exec(outcome.reproducer, {})
    exec(outcome.reproducer.replace("broken_library", sound.__name__), {})


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"__float__": lambda x: 1.0}, "are read as numbers"),
        ({"asarray": lambda x, dtype=None, device=None, copy=None: np.asarray(x, dtype)},
         "are copied by copy=True"),
        ({"__mul__": lambda x, y: np.multiply(x, y, dtype="float64")},
         "keep their dtype beside numbers"),
    ],
)  # fmt: skip
def test_what_arrays_cannot_do_is_shown(changed, name, sound):
    library = make_library("broken_library", **changed)
    (outcome,) = ap.check_backend(library, only=f"arrays/{name}", speed=False).outcomes
    assert outcome.status == "failed"
    with pytest.raises(AssertionError):
        exec(outcome.reproducer, {})
    exec(outcome.reproducer.replace("broken_library", sound.__name__), {})


def test_a_sound_library_passes(sound):
    report = ap.check_backend(sound)
    assert report.passed, str(report)
    assert {o.id for o in report.of("lacking")} == {
        f"arrays/{what}" for what in ("go out by DLPack", "can be made on every device listed")
    }
    assert max(max(o.ulps.values(), default=0.0) for o in report.outcomes) == 0.0
    assert "lacking, but not needed: arrays that go out by DLPack." in str(report)


def test_a_library_that_is_wrong_everywhere_is_reported_once_for_each_call():
    library = make_library("broken_library", maximum=None, exp=None)
    report = ap.check_backend(library, only="layers/*", speed=False)
    assert [faults[0].call for faults in report.faults()] == ["xp.maximum", "xp.exp"]
    text = str(report)
    assert text.count("xp.maximum  #") == 1
    assert f"{len(report.of('passed'))} checks passed, {len(report.of('failed'))} failed" in text
    assert max(map(len, text.splitlines())) <= 110
