"""Calls that follow each other, as one loop over their numbers.

NumPy walks through memory once for each operation; a loop that does all of them for one number, or one
row, after the other walks through it once. Its source is written down from the recorded calls
(`loops.py`), so every layer and every rule has one definition, and numba compiles it (`kernels.py`).
Only operations that IEEE 754 rounds exactly take part, so the results are NumPy's to the bit; exp, log
and their like are left to NumPy, whose own loops are as fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from anyprop.compiled.kinds import REDUCTIONS, kinds_of, shape_of
from anyprop.compiled.loops import COMPARISONS, SCALAR_FORMS, Loop
from anyprop.compiled.trace import Call, Value

# Where nothing of so many numbers is computed, only a long run gains what the compiler's time costs.
SMALLEST = 16384
# The longest rows that are reduced in a loop. A longer one NumPy sums by halves; of a longer one its
# own maximum is faster.
_LONGEST: dict[Any, int] = {np.add.reduce: 128, np.maximum.reduce: 32}

Made = TypeVar("Made")


def fused(
    calls: list[Call], kept: Iterable[Value], *, small_too: bool = False
) -> list[Call | Loop]:
    """Put calls that follow each other into one loop, if there is one of many numbers among them.

    With `small_too` also if there is none. The other parameters and the result are those of `grouped`.
    """
    large = (call.output.size >= SMALLEST for call in calls if _can_be_fused(call))
    if not small_too and not any(large):
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
    return _can_be_fused(call) and kinds_of([*group, call]) is not None


def _loop(calls: list[Call], outputs: list[Value]) -> Loop:
    return Loop(calls, outputs, shape_of(calls), kinds_of(calls) or {})


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
