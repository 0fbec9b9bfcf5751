"""Elementwise calls that follow each other, as one loop over their numbers.

NumPy walks through memory once for each operation; a loop that does all of them for one number after the
other walks through it once. Its source is written down from the recorded calls, so every layer and every
rule has one definition, and numba compiles it (`kernels.py`). Only operations that IEEE 754 rounds
exactly take part, so the results are NumPy's to the bit; exp, log and their like are left to NumPy,
whose own loops are as fast.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from anyprop.compiled.recording import OUT, Call, Value
from anyprop.compiled.traced import choose, convert

# Below this many numbers a step gains too little to be worth the time that the compiler takes.
SMALLEST = 16384

# What does the work of a call for one number; T is the floating dtype.
_SCALAR_FORMS: dict[Any, str] = {
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
    np.less: "{0} < {1}",
    np.less_equal: "{0} <= {1}",
    np.greater: "{0} > {1}",
    np.greater_equal: "{0} >= {1}",
    np.equal: "{0} == {1}",
    np.not_equal: "{0} != {1}",
    choose: "{1} if {0} else {2}",
    convert: "{0}",
}
# How a value is read in the loop: each number at its place, one number for all, or one for each column
# or row of a matrix.
_ALL, _ONE, _COLUMN, _ROW, _NUMBER = "all", "one", "column", "row", "number"


class Fused:
    """Calls that one loop does.

    Parameters
    ----------
    calls : list of Call
        What it does, in this order.
    outputs : list of Value
        Those of their results that are read elsewhere.
    """

    elementwise = True

    def __init__(self, calls: list[Call], outputs: list[Value]) -> None:
        self.calls = calls
        self.outputs = tuple(outputs)
        made = {call.output for call in calls}
        self.inputs = list(dict.fromkeys(v for call in calls for v in call.inputs if v not in made))
        shape = calls[0].output.shape
        self.kinds = {value: str(_kind(value, shape)) for value in self.inputs}
        flat = not {_ROW, _COLUMN} & set(self.kinds.values())
        self.shape: tuple[int, ...] = (math.prod(shape),) if flat else shape

    def form(self, value: Value) -> tuple[int, ...] | None:
        """Give the shape in which the loop takes an input or output; None for a number."""
        kind = self.kinds.get(value, _ALL)
        return None if kind == _NUMBER else self.shape if kind == _ALL else (-1,)

    def source(self, inputs: dict[Value, Any], outputs: Sequence[Any]) -> tuple[str, list[Any]]:
        """Write the loop down for given places of what it reads and writes.

        Parameters
        ----------
        inputs : dict of Value to array, Local or number
            Places of the inputs, in their forms.
        outputs : sequence of arrays
            Places of the outputs, in their forms.

        Returns
        -------
        source : str
            A Python module with a function `kernel`.
        arguments : list
            What to call it with.
        """
        flat = len(self.shape) == 1
        at = "[i]" if flat else "[i, j]"
        subscripts = {_ALL: at, _ONE: "[0]", _COLUMN: "[j]", _ROW: "[i]", _NUMBER: ""}
        arguments = _Arguments()
        head: list[str] = []
        body: list[str] = []
        known: dict[Value, str] = {}
        for value, place in inputs.items():
            kind = self.kinds[value]
            read = f"{arguments.name(place)}{subscripts[kind]}"
            known[value] = f"v{len(known)}"
            once = kind in (_ONE, _NUMBER)
            cast = f"T({read})" if kind == _NUMBER else read
            (head if once else body).append(f"{known[value]} = {cast}")
        for call in self.calls:
            operands = []
            for x in call.arguments:
                if isinstance(x, Value):
                    operands.append(known[x])
                elif x in (0.0, 1.0, -1.0):
                    operands.append(f"T({float(x)})")
                elif x is not OUT:
                    operands.append(f"T({arguments.name(float(x))})")
            form = _SCALAR_FORMS[call.function].format(*operands)
            known[call.output] = f"v{len(known)}"
            cast = "" if call.output.dtype == bool else "T"
            body.append(f"{known[call.output]} = {cast}({form})")
        for value, place in zip(self.outputs, outputs, strict=True):
            body.append(f"{arguments.name(place)}{at} = {known[value]}")
        loops = ["for i in range(n0):"] if flat else ["for i in range(n0):", " for j in range(n1):"]
        sizes = [f"n{axis}" for axis in range(len(self.shape))]
        lines = [
            "from numpy import sqrt",
            f"from numpy import {_floating(self.calls[0])} as T",
            f"def kernel({', '.join([*sizes, *arguments.names])}):",
            *(f" {line}" for line in [*head, *loops]),
            *(f" {' ' * len(loops)}{line}" for line in body),
        ]
        return "\n".join(lines) + "\n", [*self.shape, *arguments.places]


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
        key = (place.ctypes.data, place.shape, place.dtype) if is_array else place
        if key not in self._names:
            self._names[key] = f"a{len(self.places)}"
            self.places.append(place)
        return self._names[key]


Made = TypeVar("Made")


def fused(calls: list[Call], kept: Iterable[Value]) -> list[Call | Fused]:
    """Put elementwise calls that follow each other into one loop.

    Parameters and result are those of `grouped`.
    """
    return grouped(calls, kept, _can_be_fused, _fits, Fused)


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
    made = {other.output for other in group}
    return (
        _can_be_fused(call)
        and call.output.shape == group[0].output.shape
        and _floating(call) == _floating(group[0])
        and not any(value.base in made for value in call.inputs if value.parent is not None)
    )


def _can_be_fused(call: Call) -> bool:
    shape = call.output.shape
    if call.function not in _SCALAR_FORMS or len(shape) not in (1, 2):
        return False
    arrays = [value for value in (*call.inputs, call.output) if not value.is_number]
    dtypes = {array.dtype for array in arrays} - {np.dtype(bool)}
    return (
        call.output.size >= SMALLEST
        and len(dtypes) == 1
        and dtypes <= {np.dtype("float32"), np.dtype("float64")}
        and not (call.function is convert and call.output.dtype == bool)
        and all(_kind(value, shape) for value in call.inputs)
    )


def _floating(call: Call) -> str:
    """Name the floating dtype of a call that can be fused."""
    dtypes = [v.dtype for v in (*call.inputs, call.output) if not v.is_number]
    return str(next(dtype for dtype in dtypes if dtype.kind == "f"))


def _kind(value: Value, shape: tuple[int, ...]) -> str | None:
    """Tell how a loop over `shape` reads a value; None if it cannot."""
    if value.is_number:
        return _NUMBER
    own = value.shape
    if not value.stand_in().flags.c_contiguous:
        return None
    if own == shape:
        return _ALL
    if value.size == 1:
        return _ONE
    if len(shape) == 2 and own in (shape[1:], (1, *shape[1:])):
        return _COLUMN
    if len(shape) == 2 and own == (shape[0], 1):
        return _ROW
    return None
