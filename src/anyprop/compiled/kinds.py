"""How the values of several calls lie towards each other, if one loop can do these calls.

The loop goes through a vector, or through a matrix row by row. Each value is then of one of five kinds:
a number for each cell of the matrix, for each row (or place of the vector), for each column, an array
of one number for all, or a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from anyprop.compiled.trace import Call, Value

CELL, ROW, COLUMN, ONE, NUMBER = "cell", "row", "column", "one", "number"
REDUCTIONS = (np.add.reduce, np.maximum.reduce)


def _domain(call: Call) -> tuple[int, ...]:
    """Give the shape of what a call goes through."""
    of = call.inputs[0] if call.function in REDUCTIONS else call.output
    return tuple(of.shape)


def shape_of(calls: Sequence[Call]) -> tuple[int, ...]:
    """Give the shape of the vector or matrix that a loop of these calls goes through."""
    return max(map(_domain, calls), key=lambda shape: (len(shape), math.prod(shape)))


def kinds_of(calls: Sequence[Call]) -> dict[Value, str] | None:
    """Find the kinds of all values in a loop of these calls; None if they cannot stand in one."""
    shape = shape_of(calls)
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
    if len(shape) == 2 and within == shape:
        if own == (shape[0], 1):
            return ROW
        if own in (shape[1:], (1, *shape[1:])):
            return COLUMN
    return ONE if value.size == 1 else None
