"""Whether one call returned what NumPy returns for the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._checks import said
from anyprop._typing import Array
from anyprop.backend import device_of, dtype_name, name_of, namespace, to_host
from anyprop.testing.calls import CONVERSION, FUNCTION, OPERATOR, ObservedCall
from anyprop.testing.place import Place
from anyprop.testing.ulps import distances, largest

NUMPY = Place("numpy")

# Units in the last place that a function may be off by; all others are exact. A sum is measured in
# units of the sum of its terms' magnitudes.
_ONE = {"truediv", "sqrt", "divide", "reciprocal"}
_SUMS = {"sum", "mean", "matmul"}
LIMITS = {"sum": 16.0, "mean": 16.0, "matmul": 16.0, **dict.fromkeys(_ONE, 1.0)}
LIMITS |= dict.fromkeys(("exp", "expm1", "log", "log1p", "tanh", "pow", "sin", "cos"), 16.0)

# Their dtype is the library's index dtype or its default integer, unless one is named.
_ITS_OWN_INTEGER = {"argmax", "argmin", "arange", "sum", "prod", "asarray", "count_nonzero"}

MISSING, RAISES, UNREADABLE, NAMESPACE = "missing", "raises", "unreadable", "namespace"
DTYPE, SHAPE, DEVICE, VALUE, WRITES = "dtype", "shape", "device", "value", "writes"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a call, in one sentence.

    UNREADABLE is a result that raises when it is read, as that of a lazy library may.
    """

    kind: str
    text: str
    index: tuple[int, ...] = ()  # of the number that is furthest off, for VALUE and WRITES
    expected: Any = None  # what NumPy returns: a number, a shape, or a dtype's name
    tolerance: float = 0.0  # how far off the number may be, absolutely
    error: str = ""  # the type of the exception, for RAISES


@dataclass(frozen=True)
class Verdict:
    """A fault or none, and how far the numbers are from NumPy's, in units in the last place."""

    fault: Fault | None
    ulps: float = 0.0
    dtype: str = ""


def judge(call: ObservedCall, place: Place, result: Any, after: list[Any]) -> Verdict:
    """Compare what a call returned at a place with what NumPy returns; no fault where NumPy cannot.

    The call has the numbers that its arrays held before, `after` those that they hold now.
    """
    try:
        expected = on_numpy(call)
    except Exception:  # then the call was wrong, not the library under test
        return Verdict(None)
    if call.form == CONVERSION or not is_array(expected):
        return _judge_plain(call, result, expected)
    written = _written(call, after)
    if written is not None:
        return Verdict(written)
    return _judge_array(call, place, result, np.asarray(expected))


def on_numpy(call: ObservedCall) -> Any:
    """Make a call with NumPy's arrays."""
    with np.errstate(all="ignore"):
        return call.perform(NUMPY.xp, *call.at(NUMPY))


def judge_error(call: ObservedCall, error: Exception) -> Verdict:
    """Judge an exception: a fault if NumPy raises none."""
    try:
        on_numpy(call)
    except Exception:
        return Verdict(None)
    text = f"{call.label} raises {said(error)}"
    return Verdict(Fault(RAISES, text, error=type(error).__name__))


def is_array(value: Any) -> bool:
    """Return whether it is an array of any library."""
    return (
        hasattr(value, "shape")
        and hasattr(value, "dtype")
        and not isinstance(value, (type, np.dtype))
    )


def _judge_plain(call: ObservedCall, result: Any, expected: Any) -> Verdict:
    same = result == expected or (result != result and expected != expected)
    if isinstance(expected, (bool, int, float)) and not same:
        text = f"{call.label} gives {result!r} instead of {expected!r}."
        return Verdict(Fault(VALUE, text, (), expected))
    return Verdict(None)


def _written(call: ObservedCall, after: list[Any]) -> Fault | None:
    before = call.arrays()
    if call.name == "setitem":  # is meant to write into the first
        before, after = before[1:], after[1:]
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        changed = np.argwhere(~((old == new) | ((old != old) & (new != new))))
        if changed.size:
            index = tuple(changed[0].tolist())
            text = f"{call.label} writes into its argument."
            return Fault(WRITES, text, (i, *index), old[index].item())
    return None


def _judge_array(call: ObservedCall, place: Place, result: Any, expected: Any) -> Verdict:
    if not is_array(result):
        text = f"{call.label} gives {type(result).__name__} instead of an array."
        return Verdict(Fault(NAMESPACE, text))
    strange = _strange_place(call, place, result)
    if strange is not None:
        return Verdict(strange)
    shape = tuple(result.shape)
    if shape != expected.shape:
        text = f"{call.label} gives shape {shape} instead of {expected.shape}."
        return Verdict(Fault(SHAPE, text, (), expected.shape))
    dtype = dtype_name(result)
    if not _dtypes_agree(call, dtype, expected.dtype.name):
        text = f"{call.label} gives {dtype} instead of {expected.dtype.name}."
        return Verdict(Fault(DTYPE, text, (), expected.dtype.name))
    try:
        host = np.asarray(to_host(result))
    except Exception as error:
        text = f"what {call.label} gives cannot be read: {said(error.__cause__ or error)}."
        return Verdict(Fault(UNREADABLE, text))
    magnitude = _magnitude(call, expected)
    found = distances(host, expected, magnitude)
    furthest, limit = largest(found), LIMITS.get(call.name, 0.0)
    if furthest <= limit:
        return Verdict(None, furthest, dtype)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(found)), found.shape))
    off, unit = ("", 1.0)
    if expected.dtype.kind == "f":
        unit = float(np.spacing(np.abs(magnitude[index]).astype(expected.dtype)))
        off = f", {furthest:.3g} units in the last place where {limit:g} are allowed"
    where = f" at {list(index)}" if index else ""
    text = f"{call.label} gives {host[index]}{where}; NumPy gives {expected[index]}{off}."
    fault = Fault(VALUE, text, index, expected[index].item(), limit * unit)
    return Verdict(fault, furthest, dtype)


def _strange_place(call: ObservedCall, place: Place, result: Array) -> Fault | None:
    try:
        found = namespace(result)
    except TypeError as error:
        return Fault(NAMESPACE, f"{call.label}: {error}")
    if found is not place.xp:
        text = f"{call.label} gives an array of {name_of(found)} instead of {place.name}."
        return Fault(NAMESPACE, text)
    if place.device is not None and device_of(result) != place.device:
        text = f"{call.label} gives an array on {device_of(result)} instead of {place.device}."
        return Fault(DEVICE, text)
    return None


def _dtypes_agree(call: ObservedCall, dtype: str, expected: str) -> bool:
    own = call.name in _ITS_OWN_INTEGER and call.kwargs.get("dtype") is None
    if own and expected.lstrip("u").startswith("int"):
        return dtype.lstrip("u").startswith("int")
    return dtype == expected


def _magnitude(call: ObservedCall, expected: Any) -> Any:
    """Return the magnitude that sets an entry's unit: for a sum, the sum of its terms' magnitudes."""
    if call.form in (FUNCTION, OPERATOR) and call.name in _SUMS and expected.dtype.kind == "f":
        return np.asarray(on_numpy(call.replace(np.abs)), np.float64)
    return np.abs(expected.astype(np.float64))
