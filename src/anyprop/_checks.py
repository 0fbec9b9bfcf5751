"""Checks that turn a wrong value into one sentence: what was wrong, what was expected, what to do."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import numbers
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from typing import Any

import numpy as np

from anyprop._typing import Array, Shape

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, 60


def unknown(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not in `known`, with the nearest match."""
    known = sorted(known)
    by_lower = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[near[0]]!r}?" if near else f"choose one of: {', '.join(known)}."
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def choice(kind: str, name: object, known: Collection[str]) -> None:
    """Raise TypeError unless `name` is a str, and ValueError unless it is one of `known`."""
    if not isinstance(name, str):
        raise TypeError(f"{kind} must be a name such as {next(iter(known))!r}, not {name!r}.")
    if name not in known:
        raise unknown(kind, name, known)


def few(items: Iterable[object]) -> str:
    """Write out the first few of `items`, each cut short: they may come from a file."""
    items = list(items)
    listed = ", ".join(map(_SHORT.repr, items[:4]))
    return listed if len(items) <= 4 else f"{listed} and {len(items) - 4} more"


def kind(value: object) -> str:
    """Name the class of `value` and the module that it is from; or the class that `value` is."""
    if isinstance(value, type):
        return f"the class {value.__name__}; write {value.__name__}(...)"
    return f"{type(value).__module__}.{type(value).__name__}"


def shown(value: object) -> str:
    """Write out a name or None; of anything else name the kind."""
    return _SHORT.repr(value) if value is None or isinstance(value, str) else kind(value)


def said(error: BaseException) -> str:
    """Write an exception in one line: its type, and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".rstrip(":. ")


def worded(error: Exception, message: str) -> Exception:
    """Return an error of the class of another, or of its built-in kind, with another message."""
    try:
        return type(error)(message)
    except Exception:  # it may be of a user's data or loss, and take other arguments
        kinds = (TypeError, ValueError, OverflowError)
        return next(kind for kind in kinds if isinstance(error, kind))(message)


def has(value: object, *names: str) -> bool:
    """Return whether `value` has all these attributes, and is not a class, which has them too."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in names)


def is_sequence(value: object) -> bool:
    """Return whether `value` may hold several things in an order: not a text, a dict or a set."""
    return has(value, "__iter__") and not isinstance(value, (str, bytes, Mapping, Set))


def pair(owner: object, method: str, result: Any) -> tuple[Any, Any]:
    """Return what a layer or a loss has returned; raise TypeError unless it is a pair.

    An array of two rows could be unpacked like one.
    """
    if isinstance(result, tuple) and len(result) == 2:
        return result
    must = f"{type(owner).__name__}.{method} must return a pair, a tuple of two"
    raise TypeError(f"{must}, not {returned(result)}.")


def returned(result: object) -> str:
    """Name what a user's function has returned, which may be an array or what stands for one."""
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return "one array" if hasattr(result, "shape") else kind(result)


def check_shape(name: str, array: Array, expected: Shape) -> None:
    """Raise ValueError unless `array` has exactly the shape `expected`, TypeError if it has none."""
    if not hasattr(array, "shape"):
        raise TypeError(f"{name} must be an array of shape {tuple(expected)}, not {kind(array)}.")
    if array.shape != expected and tuple(array.shape) != tuple(expected):
        raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {tuple(expected)}.")


def check_rows(name: str, array: Array, width: int) -> None:
    """Raise ValueError unless `array` is a batch of rows of `width` numbers, (N, width)."""
    if not hasattr(array, "shape"):
        raise TypeError(f"{name} must be an array (N, {width}), not {kind(array)}.")
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, expected (N, {width}): one row per example."
        )


def is_scalar_array(value: object) -> bool:
    """Return whether `value` is a 0-d array rather than a Python or NumPy scalar."""
    if isinstance(value, (float, int)):  # as nearly always
        return False
    return getattr(value, "shape", None) == () and not isinstance(value, np.generic)


def real(owner: str, name: str, value: Any) -> float:
    """Return `value`, which must be a real number, as a Python float."""
    # Not whatever float() takes: it would read an array of shape () from its device.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        given = kind(value) if isinstance(value, type) else repr(value)
        raise TypeError(f"{owner}: {name} must be a number, not {given}.")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{owner}: {name} is a number that no float can hold.") from None


def positive(owner: str, name: str, value: Any) -> float:
    """Return `value` as a Python float in (0, inf)."""
    number = real(owner, name, value)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{owner}: {name} must be a positive finite number, not {value!r}.")
    return number


def non_negative(owner: str, name: str, value: Any) -> float:
    """Return `value` as a Python float in [0, inf)."""
    number = real(owner, name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(
            f"{owner}: {name} must be zero or a positive finite number, not {value!r}."
        )
    return number


def fraction(owner: str, name: str, value: Any) -> float:
    """Return `value` as a Python float in [0, 1)."""
    number = real(owner, name, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{owner}: {name} must be in [0, 1), not {value!r}.")
    return number


def count(owner: str, name: str, value: Any) -> int:
    """Return `value` as a Python int of at least 1."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{owner}: {name} must be a whole number, not {value!r}.") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{owner}: {name} must be a whole number of at least 1, not {value!r}.")
    return int(number)


def whole(name: str, value: Any) -> int:
    """Return `value` as a Python int of at least 0."""
    try:
        number = -1 if isinstance(value, bool) else value.__index__()
    except (AttributeError, TypeError):
        number = -1
    if number < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}.")
    return int(number)


def flag(owner: str, name: str, value: Any) -> bool:
    """Return `value`, which must be True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {name} must be True or False, not {value!r}.")
    return bool(value)


def takes(function: Any, count: int) -> bool:
    """Return whether something can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it has no signature, and a class such as dict cannot be meant
        return callable(function) and not isinstance(function, type)
    return True


def optional(check: Callable[[str, str, Any], Any]) -> Callable[[str, str, Any], Any]:
    """Return a check that accepts None."""

    def check_given(owner: str, name: str, value: Any) -> Any:
        return None if value is None else check(owner, name, value)

    return check_given


def each(check: Callable[[str, str, Any], Any]) -> Callable[[str, str, Any], tuple[Any, ...]]:
    """Return a check of every member of a sequence, which returns them as a tuple."""

    def check_each(owner: str, name: str, values: Any) -> tuple[Any, ...]:
        if not is_sequence(values):
            raise TypeError(f"{owner}: {name} must be a sequence such as a list, not {values!r}.")
        return tuple(check(owner, f"{name}[{i}]", value) for i, value in enumerate(values))

    return check_each


def younger(default: Any) -> Any:
    """Return a field that files of earlier versions lack; settings name it only if it is set."""
    return dataclasses.field(default=default, metadata={"younger": True})


def fields(instance: Any, **checks: Callable[[str, str, Any], Any]) -> None:
    """Check fields of a frozen dataclass and store what the checks return.

    The stored value is a Python number: a `numpy.float64` would upcast float32 arrays on NumPy
    and is refused by array-api-strict.
    """
    owner = type(instance).__name__
    for name, check in checks.items():
        object.__setattr__(instance, name, check(owner, name, getattr(instance, name)))
