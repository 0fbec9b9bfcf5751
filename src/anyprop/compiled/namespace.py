"""The namespace of traced arrays: functions of the Array API standard that record what to do.

Elementwise functions are NumPy's ufuncs of the same names, looked up as they are asked for. What is
missing here cannot be repeated into a buffer, or nothing in the library needs it yet.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from anyprop.backend import get_namespace
from anyprop.compiled.trace import (
    OUT,
    Recording,
    Traced,
    apply,
    elementwise,
    record,
    view,
)
from anyprop.optimizers.base import Optimizer
from anyprop.repeatable.stand_in import refuse

_xp = get_namespace("numpy")
isdtype, finfo, nan, inf = _xp.isdtype, _xp.finfo, _xp.nan, _xp.inf


def __getattr__(name: str) -> Any:
    if name.startswith("__") or not hasattr(_xp, name):  # not part of a namespace
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(np, name, None)
    if isinstance(found, np.ufunc):
        return partial(apply, found)
    # A dtype, which is asked for by its name as functions are.
    if isinstance(found, type) and issubclass(found, np.generic):
        return found
    # Not AttributeError: NumPy has the function, so the step is right, and only runs uncompiled.
    return refuse(f"it uses {name}, which has no planned form on NumPy")


def matmul(x1: Traced, x2: Traced) -> Traced:
    """Matrix product."""
    if x1.shape[-1:] != x2.shape[-2:][:1]:
        raise ValueError(f"matmul: matrices of shapes {x1.shape} and {x2.shape} have no product.")
    stacks = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    shape = (*stacks, *x1.shape[-2:-1], *x2.shape[-2:][1:])
    return record(np.matmul, [x1, x2, OUT], shape, np.result_type(x1.dtype, x2.dtype))


def _reduce(ufunc: Any, x: Traced, axis: Any, keepdims: bool, dtype: Any = None) -> Traced:
    # One number, seen as the whole array, so that to find out shape and dtype takes no memory.
    ones = np.broadcast_to(np.ones((), x.dtype), x.shape)
    found = ufunc.reduce(ones, axis=axis, dtype=dtype, keepdims=keepdims)
    return record(ufunc.reduce, [x, axis, dtype, OUT, keepdims], found.shape, found.dtype)


def sum(x: Traced, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
    """Sum over axes."""
    return _reduce(np.add, x, axis, keepdims, dtype)


def max(x: Traced, *, axis: Any = None, keepdims: bool = False) -> Traced:
    """Largest number over axes."""
    return _reduce(np.maximum, x, axis, keepdims)


def mean(x: Traced, *, axis: Any = None, keepdims: bool = False) -> Traced:
    """Mean over axes, as NumPy takes it: the sum divided by the count."""
    # In two calls, of which the sum can be part of a loop, as a mean of its own could not.
    count = x.size if axis is None else x.shape[axis]
    return apply(np.true_divide, _reduce(np.add, x, axis, keepdims), count)


def clip(x: Traced, lowest: float, highest: float) -> Traced:
    """Clip numbers to an interval."""
    return apply(np.clip, x, lowest, highest)


def astype(x: Traced, dtype: Any, *, copy: bool = True) -> Traced:
    """Convert to a dtype."""
    if x.dtype == dtype and not copy:
        return x
    return record(convert, [x, OUT], x.shape, np.dtype(dtype))


def convert(x: Any, out: Any) -> None:
    """Repeat `astype`."""
    np.copyto(out, x, "unsafe")


def where(condition: Traced, x1: Any, x2: Any) -> Traced:
    """Choose between two arrays or numbers."""
    args = [condition, x1, x2]
    return record(choose, [*args, OUT], *elementwise(_xp.where, *args))


def choose(condition: Any, x1: Any, x2: Any, out: Any) -> None:
    """Repeat `where`."""
    # Two copies, since np.where takes no `out` and would make an array in each run.
    np.copyto(out, x2)
    np.copyto(out, x1, where=condition)


def outside(function: Callable[[Any], Any], x: Traced) -> Traced:
    """Record a call outside the standard, such as an all-reduce.

    `function` receives a copy of x, which it may overwrite; its result has the shape and dtype of
    x.
    """
    return record(partial(store_outside, function), [x, OUT], x.shape, x.dtype)


def store_outside(function: Callable[[Any], Any], x: Any, out: Any) -> None:
    """Repeat `outside`."""
    np.copyto(out, x)
    # In the buffer of the plan: an exchange in place, such as MPI's, then needs no array of its own.
    result = function(out)
    if result is not out:
        np.copyto(out, result)


def concat(arrays: list[Traced]) -> Traced:
    """Join vectors; the plan computes each in its place."""
    if any(a.ndim != 1 for a in arrays):
        refuse("it joins arrays that are not vectors")
    n = builtins.sum(a.size for a in arrays)
    return record(join, [*arrays, OUT], (n,), np.result_type(*(a.dtype for a in arrays)))


def join(*vectors: Any, out: Any) -> None:
    """Repeat `concat` where the vectors were not computed in their places."""
    np.concatenate(vectors, out=out)


def reshape(x: Traced, shape: tuple[int, ...]) -> Traced:
    """Return the same numbers in another shape."""
    return view(x, lambda array: array.reshape(shape))


def expand_dims(x: Traced, *, axis: int) -> Traced:
    """Insert a dimension of size 1."""
    return reshape(x, np.expand_dims(x.value.stand_in(), axis).shape)


def asarray(values: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Traced:
    """Return a constant; an array that is traced already passes through."""
    if isinstance(values, Traced):
        return values
    return Recording.given(np.asarray(values, dtype=dtype))


def arange(stop: int, *, dtype: Any = None, device: Any = None) -> Traced:
    """Return the constant 0, 1, ..., stop - 1."""
    return Recording.given(np.arange(stop, dtype=dtype))


def full(shape: Any, value: float, *, dtype: Any = None, device: Any = None) -> Traced:
    """Return a constant array of one number."""
    return Recording.given(np.full(shape, value, dtype=dtype))


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Traced:
    """Return a constant array of zeros."""
    return full(shape, 0, dtype=dtype)


def is_elementwise(optimizer: Any) -> bool:
    """Return whether to update vectors in pieces is to update them.

    It is where the optimizer has a rule alone of its own, in whose recording each number depends on
    those at its own place.
    """
    methods = [getattr(type(optimizer), name, None) for name in ("apply", "clip_norms")]
    if methods != [Optimizer.apply, Optimizer.clip_norms]:
        return False
    # Without numbers: an array of the rule's own does not fit, as it would not fit the pieces.
    vector = Recording.given(np.empty(0, np.float32))
    slots = [0.0 if initial is None else vector for initial in optimizer.slots().values()]
    try:
        with np.errstate(all="ignore"), Recording() as recording:
            rule = optimizer.rule(sys.modules[__name__])
            rule(vector, vector, *slots, **optimizer.scalars(1, 1.0))
    except Exception:  # a rule of someone's own, which may use functions of JAX
        return False
    # `choose` is not marked, for it writes its output before it has read its last input.
    return all(call.elementwise or call.function is choose for call in recording.calls)
