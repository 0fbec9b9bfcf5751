"""The namespace of traced arrays: functions of the Array API standard that write down what they do.

Elementwise functions are NumPy's ufuncs of the same names, looked up as they are asked for. What is
missing here cannot be repeated into a buffer, or nothing in the library needs it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from anyprop.backend import get_namespace
from anyprop.compiled.recording import (
    OUT,
    Recording,
    Traced,
    TraceError,
    apply,
    data_of,
    record,
    view,
)

_xp = get_namespace("numpy")
isdtype, finfo, nan, inf = _xp.isdtype, _xp.finfo, _xp.nan, _xp.inf


def __getattr__(name: str) -> Any:
    if name.startswith("__") or not hasattr(
        _xp, name
    ):  # what nobody asks an Array API namespace for
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(np, name, None)
    if isinstance(found, np.ufunc):
        return partial(apply, found)
    if isinstance(found, type) and issubclass(found, np.generic):
        return found
    raise TraceError(f"it uses {name}, which has no planned form on NumPy")


def matmul(x1: Traced, x2: Traced) -> Traced:
    """Matrix product."""
    data = np.matmul(data_of(x1), data_of(x2))
    return record(np.matmul, [x1, x2, OUT], data)


def _reduce(ufunc: Any, x: Traced, axis: Any, keepdims: bool, dtype: Any = None) -> Traced:
    data = ufunc.reduce(data_of(x), axis=axis, dtype=dtype, keepdims=keepdims)
    return record(ufunc.reduce, [x, axis, dtype, OUT, keepdims], data)


def sum(x: Traced, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
    """Sum over axes."""
    return _reduce(np.add, x, axis, keepdims, dtype)


def max(x: Traced, *, axis: Any = None, keepdims: bool = False) -> Traced:
    """Largest number over axes."""
    return _reduce(np.maximum, x, axis, keepdims)


def mean(x: Traced, *, axis: Any = None, keepdims: bool = False) -> Traced:
    """Mean over axes, as NumPy takes it: the sum divided by the count."""
    count = x.size if axis is None else x.shape[axis]
    return apply(np.true_divide, _reduce(np.add, x, axis, keepdims), count)


def clip(x: Traced, lowest: float, highest: float) -> Traced:
    """Bring numbers into an interval."""
    return apply(np.clip, x, lowest, highest)


def astype(x: Traced, dtype: Any, *, copy: bool = True) -> Traced:
    """Convert to a dtype."""
    if x.dtype == dtype and not copy:
        return x
    return record(convert, [x, OUT], data_of(x).astype(dtype))


def convert(x: Any, out: Any) -> None:
    """Repeat `astype`."""
    np.copyto(out, x, "unsafe")


def where(condition: Traced, x1: Any, x2: Any) -> Traced:
    """Choose between two arrays or numbers."""
    args = [condition, x1, x2]
    return record(choose, [*args, OUT], _xp.where(*map(data_of, args)))


def choose(condition: Any, x1: Any, x2: Any, out: Any) -> None:
    """Repeat `where`."""
    np.copyto(out, x2)
    np.copyto(out, x1, where=condition)


def outside(function: Callable[[Any], Any], x: Traced) -> Traced:
    """Do what is no function of the standard: `function` of a copy of x, which it may write over.

    Its result has the shape and dtype of x. An exchange with other processes is such a thing.
    """
    # Not while it is recorded: the others may not be recording the same step.
    return record(partial(store_outside, function), [x, OUT], data_of(x).copy())


def store_outside(function: Callable[[Any], Any], x: Any, out: Any) -> None:
    """Repeat `outside`."""
    np.copyto(out, x)
    result = function(out)
    if result is not out:
        np.copyto(out, result)


def concat(arrays: list[Traced]) -> Traced:
    """Join vectors; the plan lets each be computed in its place."""
    return record(join, [*arrays, OUT], np.concatenate([data_of(a) for a in arrays]))


def join(*vectors: Any, out: Any) -> None:
    """Repeat `concat` where the vectors were not computed in their places."""
    np.concatenate(vectors, out=out)


def reshape(x: Traced, shape: tuple[int, ...]) -> Traced:
    """Give the same numbers another shape."""
    return view(x, lambda array: array.reshape(shape))


def expand_dims(x: Traced, *, axis: int) -> Traced:
    """Insert a dimension of size 1."""
    return reshape(x, np.expand_dims(data_of(x), axis).shape)


def asarray(values: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Traced:
    """Make a constant; an array that is traced already passes through."""
    if isinstance(values, Traced):
        return values
    return Recording.given(np.asarray(values, dtype=dtype))


def arange(stop: int, *, dtype: Any = None, device: Any = None) -> Traced:
    """Make the constant 0, 1, ..., stop - 1."""
    return Recording.given(np.arange(stop, dtype=dtype))


def full(shape: Any, value: float, *, dtype: Any = None, device: Any = None) -> Traced:
    """Make a constant array of one number."""
    return Recording.given(np.full(shape, value, dtype=dtype))


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Traced:
    """Make a constant array of zeros."""
    return full(shape, 0, dtype=dtype)
