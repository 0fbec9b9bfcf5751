"""Calls on a vector, or on a matrix row by row, written down as one loop for numba.

    for i                       each number of the vector, or each row
        for j                   each cell of the row: a walk along it
        the row's sum or maximum, and what is computed of these
        for j                   the next walk, for what depends on them

A sum down the columns is added up during a walk. Sums are taken in the order in which NumPy takes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anyprop.compiled.kinds import CELL, COLUMN, NUMBER, ONE, REDUCTIONS, ROW
from anyprop.compiled.namespace import choose, convert
from anyprop.compiled.trace import OUT, Call, Value

COMPARISONS: dict[Any, str] = {
    np.less: "{0} < {1}",
    np.less_equal: "{0} <= {1}",
    np.greater: "{0} > {1}",
    np.greater_equal: "{0} >= {1}",
    np.equal: "{0} == {1}",
    np.not_equal: "{0} != {1}",
}
# What does the work of a call for one number; T is the floating dtype.
SCALAR_FORMS: dict[Any, str] = COMPARISONS | {
    np.add: "{0} + {1}",
    np.subtract: "{0} - {1}",
    np.multiply: "{0} * {1}",
    np.true_divide: "{0} / {1}",
    np.negative: "-{0}",
    np.absolute: "abs({0})",
    np.sqrt: "sqrt({0})",
    np.sign: "T(1.0) if {0} > 0 else T(-1.0) if {0} < 0 else {0}",
    np.maximum: "{0} if {0} >= {1} or {0} != {0} else {1}",
    np.minimum: "{0} if {0} <= {1} or {0} != {0} else {1}",
    np.clip: "{1} if {0} < {1} else {2} if {0} > {2} else {0}",
    np.bitwise_and: "{0} & {1}",
    choose: "{1} if {0} else {2}",
    convert: "{0}",
}
# Where the numbers of each kind of values lie.
_AT = {CELL: "[i, {j}]", ROW: "[i]", COLUMN: "[{j}]", ONE: "[0]", NUMBER: ""}


class Loop:
    """Calls that one loop does.

    Parameters
    ----------
    calls : list of Call
        What it does, in this order.
    outputs : list of Value
        Those of their results that are read elsewhere.
    shape : tuple of int
        That of the vector or the matrix.
    kinds : dict of Value to str
        The kind of each value.

    Attributes
    ----------
    inputs : list of Value
        What it reads.
    walks : dict of Value to int
        For each result the walk in which it is computed, or before which if it belongs to a row.
    in_place : list of Value
        The outputs that may lie where an input lies that has as many numbers.
    """

    def __init__(
        self,
        calls: list[Call],
        outputs: list[Value],
        shape: tuple[int, ...],
        kinds: dict[Value, str],
    ) -> None:
        self.calls, self.outputs = calls, outputs
        reduces = any(call.function in REDUCTIONS for call in calls)
        if not reduces and not {ROW, COLUMN} & set(kinds.values()):
            shape = (math.prod(shape),)
            kinds = {value: ROW if kind == CELL else kind for value, kind in kinds.items()}
        self.shape, self.kinds = shape, kinds
        self.walks: dict[Value, int] = {}
        for call in calls:
            latest = max(self.walks.get(value, 0) for value in call.inputs)
            along = call.function in REDUCTIONS and kinds[call.output] == ROW
            self.walks[call.output] = latest + 1 if along else latest
        read = dict.fromkeys(value for call in calls for value in call.inputs)
        self.inputs = [value for value in read if value not in self.walks]
        whole = CELL if len(shape) == 2 else ROW
        once = not any(self.walks.values())
        self.in_place = [value for value in outputs if once and kinds[value] == whole]

    def form(self, value: Value) -> tuple[int, ...] | None:
        """Give the shape in which the loop takes an input or output; None for a number."""
        kind = self.kinds[value]
        return None if kind == NUMBER else self.shape if kind == CELL else (-1,)

    def source(self, places: Mapping[Value, Any]) -> tuple[str, list[Any]]:
        """Write the loop down.

        Parameters
        ----------
        places : mapping of Value to array, Local or number
            Where the inputs and outputs lie, in their forms.

        Returns
        -------
        source : str
            A Python module with a function `kernel`.
        arguments : list
            What to call it with.
        """
        arguments = _Arguments()
        body = _Body(self, places, arguments).lines()
        sizes = [f"n{axis}" for axis in range(len(self.shape))]
        lines = [
            "from numpy import sqrt",
            f"from numpy import {_floating(self.calls)} as T",
            f"def kernel({', '.join([*sizes, *arguments.names])}):",
            *_indented(body),
        ]
        return "\n".join(lines) + "\n", [*self.shape, *arguments.places]


class _Body:
    """The lines of a loop, and the names in them."""

    def __init__(self, loop: Loop, places: Mapping[Value, Any], arguments: _Arguments) -> None:
        self.loop, self.arguments = loop, arguments
        self.names = {value: f"v{k}" for k, value in enumerate([*loop.inputs, *loop.walks])}
        self.spots = {
            value: arguments.name(x) + _AT[loop.kinds[value]] for value, x in places.items()
        }
        for value in loop.walks:
            if value not in self.spots and self._is_read_later(value):
                scratch = np.empty(loop.shape[1], value.dtype)
                self.spots[value] = arguments.name(scratch) + _AT[COLUMN]

    def _is_read_later(self, value: Value) -> bool:
        """Tell whether a walk needs what an earlier one computed of its cells."""
        now = self.loop.walks[value]
        later = (call for call in self.loop.calls if self.loop.walks[call.output] > now)
        return self.loop.kinds[value] == CELL and any(value in call.inputs for call in later)

    def lines(self) -> list[str]:
        """Give all of them."""
        kinds, walks = self.loop.kinds, self.loop.walks
        head = [
            f"{self.names[v]} = T({self._spot(v)})" if kinds[v] == NUMBER else self._load(v)
            for v in self.loop.inputs
            if kinds[v] in (NUMBER, ONE)
        ]
        sums = [value for value in self.loop.outputs if kinds[value] == COLUMN]
        head += [f"for j in range(n1): {self._spot(value)} = T(0.0)" for value in sums]
        row = [self._load(value) for value in self.loop.inputs if kinds[value] == ROW]
        for walk in range(max(walks.values()) + 1):
            calls = [call for call in self.loop.calls if walks[call.output] == walk]
            for call in calls:
                if kinds[call.output] == ROW:
                    row += self._work(call)
            cells = self._walk([call for call in calls if kinds[call.output] != ROW], walk)
            row += ["for j in range(n1):", *_indented(cells)] if cells else []
        row += [self._store(value) for value in self.loop.outputs if kinds[value] == ROW]
        return [*head, "for i in range(n0):", *_indented(row)]

    def _walk(self, calls: list[Call], walk: int) -> list[str]:
        """Write what is done in each cell: read all, compute, then store."""
        read = dict.fromkeys(value for call in calls for value in call.inputs)
        loads = [
            self._load(value)
            for value in read
            if self.loop.kinds[value] in (CELL, COLUMN) and self.loop.walks.get(value, -1) < walk
        ]
        work, stores = [], []
        for call in calls:
            a_sum = self.loop.kinds[call.output] == COLUMN
            work += [] if a_sum else self._work(call)
            if call.output in self.spots:
                added = f"{self._spot(call.output)} += {self.names[call.inputs[0]]}"
                stores.append(added if a_sum else self._store(call.output))
        return [*loads, *work, *stores]

    def _work(self, call: Call) -> list[str]:
        """Write a call down, for one cell or row."""
        name = self.names[call.output]
        if call.function == np.add.reduce:
            return self._sum(name, call.inputs[0])
        if call.function == np.maximum.reduce:
            (x,) = call.inputs
            longest = SCALAR_FORMS[np.maximum].format(name, self._spot(x))
            first = f"{name} = {self._spot(x, '0')}"
            return [first, "for j in range(1, n1):", f" {name} = {longest}"]
        operands = [self._operand(call, x) for x in call.arguments if x is not OUT]
        cast = "" if call.output.dtype == bool else "T"
        return [f"{name} = {cast}({SCALAR_FORMS[call.function].format(*operands)})"]

    def _operand(self, call: Call, x: Any) -> str:
        if isinstance(x, Value):
            return self.names[x]
        if any(not value.is_number and value.dtype.kind == "i" for value in call.inputs):
            return self.arguments.name(int(x))
        return f"T({float(x)})" if x in (0.0, 1.0, -1.0) else f"T({self.arguments.name(float(x))})"

    def _sum(self, name: str, x: Value) -> list[str]:
        """Write a row's sum as NumPy takes it: of eight numbers and more by eight partial sums."""
        if self.loop.shape[1] < 8:
            return [f"{name} = T(0.0)", "for j in range(n1):", f" {name} += {self._spot(x)}"]
        return [
            *(f"s{k} = {self._spot(x, str(k))}" for k in range(8)),
            "n8 = n1 - n1 % 8",
            "for j in range(8, n8, 8):",
            *(f" s{k} += {self._spot(x, f'j + {k}')}" for k in range(8)),
            f"{name} = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))",
            "for j in range(n8, n1):",
            f" {name} += {self._spot(x)}",
        ]

    def _load(self, value: Value) -> str:
        return f"{self.names[value]} = {self._spot(value)}"

    def _store(self, value: Value) -> str:
        return f"{self._spot(value)} = {self.names[value]}"

    def _spot(self, value: Value, j: str = "j") -> str:
        return self.spots[value].format(j=j)


def _indented(lines: list[str]) -> list[str]:
    return [f" {line}" for line in lines]


def _floating(calls: list[Call]) -> str:
    """Name the floating dtype that calls share."""
    values = [value for call in calls for value in (*call.inputs, call.output)]
    floating = (v.dtype for v in values if not v.is_number and v.dtype.kind == "f")
    return str(next(floating, np.float64.__name__))


class _Arguments:
    """The arguments of a loop, each memory under one name.

    Two names for one memory would keep the compiler from using vector instructions.
    """

    def __init__(self) -> None:
        self.places: list[Any] = []
        self._names: dict[Any, str] = {}

    @property
    def names(self) -> list[str]:
        return [f"a{i}" for i in range(len(self.places))]

    def name(self, place: Any) -> str:
        is_array = isinstance(place, np.ndarray)
        key = (place.ctypes.data, place.shape, place.dtype) if is_array else (type(place), place)
        if key not in self._names:
            self._names[key] = f"a{len(self.places)}"
            self.places.append(place)
        return self._names[key]
