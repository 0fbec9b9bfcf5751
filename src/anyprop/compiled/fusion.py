"""Calls that follow each other, as one loop over their numbers.

NumPy walks through memory once for each operation; a loop that does all of them for one number, or one
row, after the other walks through it once. Its source is written down from the recorded calls
(`loops.py`), so every layer and every rule has one definition, and numba compiles it (`kernels.py`).
Only operations that IEEE 754 rounds exactly take part, so the results are NumPy's to the bit; exp, log
and their like are left to NumPy, whose own loops are as fast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from anyprop.compiled.loops import (
    CELL,
    COLUMN,
    COMPARISONS,
    NUMBER,
    ONE,
    REDUCTIONS,
    ROW,
    SCALAR_FORMS,
    Loop,
)
from anyprop.compiled.recording import Call, Value

# A step that computes nothing of so many numbers gains too little to be worth the compiler's time.
SMALLEST = 16384
# The longest rows that are reduced in a loop. A longer one NumPy sums by halves; of a longer one its
# own maximum is faster.
_LONGEST: dict[Any, int] = {np.add.reduce: 128, np.maximum.reduce: 32}

Made = TypeVar("Made")


def fused(calls: list[Call], kept: Iterable[Value]) -> list[Call | Loop]:
    """Put calls that follow each other into one loop, if there is one of many numbers among them.

    Parameters and result are those of `grouped`.
    """
    if not any(_can_be_fused(call) and call.output.size >= SMALLEST for call in calls):
        return [*calls]
    return grouped(calls, kept, _can_be_fused, _fits, _loop)


def grouped(
    calls: list[Call],
    kept: Iterable[Value],
    can_be_fused: Callable[[Call], bool],
    fits: Callable[[Call, list[Call]], bool],
    make: Callable[[list[Call], list[Value]], Made],
) -> list[Call | Made]:
    """Put calls that follow each other together.

    Parameters
    ----------
    calls : list of Call
        Those of a recording.
    kept : iterable of Value
        Results that are read after the last call, or lie in the memory of others.
    can_be_fused : callable
        Tells whether a call can stand in a group.
    fits : callable
        Tells whether it can stand in a group after the calls there are.
    make : callable
        Makes what does the calls of a group, two at least, of which it is given the results that are
        read elsewhere.

    Returns
    -------
    list of Call or of what `make` makes
        The same work in the same order; calls on numbers, which depend on nothing else, come first.
    """
    reads = Counter(value.base for call in calls for value in call.inputs)
    reads.update(value.base for value in kept)
    done: list[Call | Made] = [call for call in calls if call.output.is_number]
    group: list[Call] = []

    def close() -> None:
        if len(group) < 2:
            done.extend(group)
        else:
            inside = Counter(value.base for call in group for value in call.inputs)
            made = [call.output for call in group]
            done.append(make(group[:], [v for v in made if reads[v] > inside[v]]))
        group.clear()

    for call in calls:
        if call.output.is_number:
            continue
        if group and not fits(call, group):
            close()
        if can_be_fused(call):
            group.append(call)
        else:
            done.append(call)
    close()
    return done


def _fits(call: Call, group: list[Call]) -> bool:
    """Tell whether a call can stand in one loop with those before it."""
    return _can_be_fused(call) and _kinds([*group, call]) is not None


def _loop(calls: list[Call], outputs: list[Value]) -> Loop:
    return Loop(calls, outputs, _shape(calls), _kinds(calls) or {})


def _can_be_fused(call: Call) -> bool:
    if call.output.is_number:
        return False
    arrays = [value for value in (*call.inputs, call.output) if not value.is_number]
    dtypes = {array.dtype for array in arrays} - {np.dtype(bool)}
    one_floating = len(dtypes) == 1 and dtypes <= {np.dtype("float32"), np.dtype("float64")}
    if call.function in REDUCTIONS:
        return one_floating and _is_reduced(call)
    if call.function not in SCALAR_FORMS or len(call.output.shape) not in (1, 2):
        return False
    if call.function is np.bitwise_and:
        return not dtypes
    if call.function in COMPARISONS:
        return one_floating or (len(dtypes) == 1 and {dtype.kind for dtype in dtypes} == {"i"})
    return one_floating and call.output.dtype != bool


def _is_reduced(call: Call) -> bool:
    """Tell whether a loop can take this sum or maximum."""
    x, axis, *_ = call.arguments
    if len(x.shape) != 2 or x.shape[1] < 2:
        return False
    if axis == 0:
        return call.function == np.add.reduce
    return axis in (1, -1) and x.shape[1] <= _LONGEST[call.function]


def _domain(call: Call) -> tuple[int, ...]:
    """Give the shape of what a call goes through."""
    of = call.inputs[0] if call.function in REDUCTIONS else call.output
    return tuple(of.shape)


def _shape(calls: list[Call]) -> tuple[int, ...]:
    """Give the shape of the vector or matrix that a loop of these calls goes through."""
    return max(map(_domain, calls), key=lambda shape: (len(shape), math.prod(shape)))


def _kinds(calls: list[Call]) -> dict[Value, str] | None:
    """Find the kinds of all values in a loop of these calls; None if they cannot stand in one."""
    shape = _shape(calls)
    others = {_domain(call) for call in calls} - {shape}
    if not others <= {shape[:1], (shape[0], 1)}:
        return None
    kinds: dict[Value, str | None] = {}
    made: dict[Value, str] = {}
    for call in calls:
        for value in call.inputs:
            kind = _kind(value, _domain(call), shape)
            of_a_result = value.parent is not None and value.base in made
            if of_a_result or kinds.setdefault(value, kind) != kind or made.get(value) == COLUMN:
                return None
        within = CELL if _domain(call) == shape and len(shape) == 2 else ROW
        if call.function in REDUCTIONS:
            within = COLUMN if call.arguments[1] == 0 else ROW
        kinds[call.output] = made[call.output] = within
    floating = {v.dtype for v in kinds if not v.is_number and v.dtype.kind == "f"}
    if len(floating) > 1 or None in kinds.values():
        return None
    return {value: kind for value, kind in kinds.items() if kind}


def _kind(value: Value, within: tuple[int, ...], shape: tuple[int, ...]) -> str | None:
    """Tell how a call that goes through `within` reads a value; None if a loop cannot."""
    if value.is_number:
        return NUMBER
    own = tuple(value.shape)
    if not value.stand_in().flags.c_contiguous:
        return None
    if own == within:
        return CELL if len(shape) == 2 and within == shape else ROW
    if value.size == 1:
        return ONE
    if len(shape) == 2 and within == shape:
        if own in (shape[1:], (1, *shape[1:])):
            return COLUMN
        if own == (shape[0], 1):
            return ROW
    return None
