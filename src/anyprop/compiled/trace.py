"""A recording of what a step does, without doing it.

A `Traced` takes the place of a NumPy array, a `TracedNumber` that of a Python float that differs
from step to step, such as the learning rate. An operation on them is kept as a `Call`; only the
shape and the dtype of its result are computed, so recording needs almost no memory. `namespace.py`
has the functions of these arrays, `memory.py` chooses the buffers of the results.
"""

from __future__ import annotations

import math
import operator
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop.repeatable.stand_in import StandIn, refuse

_thread = threading.local()

OUT = object()
"""Marks, in the arguments of a recorded call, the array that takes its result."""


@dataclass(eq=False, slots=True)
class Value:
    """One array or number of a recording.

    Parameters
    ----------
    shape, dtype
        Those of an array; None for a number.
    data : numpy.ndarray or float, optional
        The array, if it existed before the run, as an argument or a constant; the number, as an
        example of its type.
    parent : Value, optional
        What it is a view of.
    view : callable, optional
        Makes the view from the parent's array.
    """

    shape: Any
    dtype: Any
    data: Any = None
    parent: Value | None = None
    view: Callable[[Any], Any] | None = None

    @property
    def given(self) -> bool:
        """Whether it needs no buffer: an array that existed before, or a number."""
        return self.data is not None

    @property
    def size(self) -> int:
        """Number of elements of an array."""
        return math.prod(self.shape)

    @property
    def base(self) -> Value:
        """The value whose memory this one is in."""
        value = self
        while value.parent is not None:
            value = value.parent
        return value

    @property
    def is_number(self) -> bool:
        """Whether it is a Python number."""
        return self.dtype is None

    def stand_in(self) -> Any:
        """Return an array with the layout that this one will have; its numbers are not to be read."""
        if self.parent is not None and self.view is not None:
            return self.view(self.parent.stand_in())
        return self.data if self.given else np.empty(self.shape, self.dtype)


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of a recording.

    Parameters
    ----------
    function : callable
        What to call; it stores its result in the array in place of OUT, or returns a number.
    arguments : tuple of Value, OUT and constants
        The arguments, in the order of the function.
    output : Value
        What it computes.
    elementwise : bool
        Whether each number of the output depends on the inputs' numbers at its own place alone, and is
        written after them, so that the output may take the place of an input.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    output: Value
    elementwise: bool = False

    @property
    def inputs(self) -> list[Value]:
        """What it reads, constants left out."""
        return [value for value in self.arguments if isinstance(value, Value)]

    @property
    def outputs(self) -> tuple[Value]:
        """What it computes, as a kernel of several calls lists it too."""
        return (self.output,)


class Recording:
    """The calls that one function made; as a context, it collects those of its thread."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __enter__(self) -> Recording:
        # By thread: another one may be recording a step of its own, or computing.
        self._outer = getattr(_thread, "recording", None)
        _thread.recording = self
        return self

    def __exit__(self, *exception: object) -> None:
        _thread.recording = self._outer

    @staticmethod
    def given(array: Any) -> Traced:
        """Return a traced array for an argument or a constant."""
        array = np.asarray(array)
        return Traced(Value(array.shape, array.dtype, data=array))

    @staticmethod
    def number(number: float) -> TracedNumber:
        """Return a traced number, which may differ in each run."""
        return TracedNumber(Value(None, None, data=float(number)))


def record(
    function: Callable[..., Any],
    arguments: list[Any],
    shape: Any,
    dtype: Any,
    *,
    elementwise: bool = False,
) -> Traced:
    """Append a call, whose result has this shape and dtype, to the recording of this thread."""
    output = Value(shape, dtype)
    values = tuple(map(value_of, arguments))
    _thread.recording.calls.append(Call(function, values, output, elementwise))
    return Traced(output)


def value_of(x: Any) -> Any:
    """Return the value of a traced object; what is not traced passes through."""
    return x.value if isinstance(x, (Traced, TracedNumber)) else x


def apply(ufunc: Callable[..., Any], *args: Any) -> Traced:
    """Record a universal function, or another elementwise one that takes `out` last."""
    operands = [Recording.given(x) if isinstance(x, np.ndarray) else x for x in args]
    return record(ufunc, [*operands, OUT], *elementwise(ufunc, *args), elementwise=True)


def elementwise(function: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """Return the shape and the dtype of an elementwise function's result."""
    shapes = [x.shape for x in args if hasattr(x, "shape")]
    # NumPy itself says which dtype follows, for ones as for all other numbers.
    ones = [np.ones((), x.dtype) if hasattr(x, "shape") else _number(x) for x in args]
    return np.broadcast_shapes(*shapes), function(*ones).dtype


def _number(x: Any) -> Any:
    return x.value.data if isinstance(x, TracedNumber) else x


def view(x: Traced, function: Callable[[Any], Any]) -> Traced:
    """Record an operation that returns a view, or a copy where NumPy cannot make a view."""
    array = x.value.stand_in()
    found = function(array)
    # A view costs nothing in a run; what NumPy has to copy is work, and so a call.
    if np.may_share_memory(found, array) or found.size == 0:
        return Traced(Value(found.shape, found.dtype, parent=x.value, view=function))
    return record(
        lambda array, out: np.copyto(out, function(array)), [x, OUT], found.shape, found.dtype
    )


def _refuse(self: Any, *args: Any) -> Any:
    refuse("it reads numbers from an array, or writes into one")


class Traced(StandIn):
    """An array of the namespace `namespace.py`, in place of a NumPy array."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]
    device = "cpu"

    def __init__(self, value: Value) -> None:
        self.value = value

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules["anyprop.compiled.namespace"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        """Data type."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """Number of numbers."""
        return self.value.size

    @property
    def T(self) -> Traced:
        """The transposed matrix."""
        return view(self, lambda array: array.T)

    def __getitem__(self, key: Any) -> Traced:
        return view(self, lambda array: array[key])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(f"an array has no attribute {name!r}")
        return refuse(f"it uses {name} of an array, which has no planned form on NumPy")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = __setitem__ = _refuse


class TracedNumber(StandIn):
    """A number in place of a Python float, which counts as little in type promotion as one."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Value) -> None:
        self.value = value

    __bool__ = __float__ = __int__ = __index__ = _refuse


def _operator(ufunc: Any, function: Any, *, swapped: bool = False) -> Callable[..., Any]:
    def operate(self: Any, *other: Any) -> Any:
        args = (*other, self) if swapped else (self, *other)
        if any(isinstance(x, Traced) for x in args):
            return apply(ufunc, *args)
        if not all(isinstance(x, (TracedNumber, float, int)) for x in args):
            return NotImplemented
        # Of numbers alone: each run computes it anew, as a Python float, which needs no buffer.
        output = Value(None, None, data=function(*map(_number, args)))
        values = tuple(map(value_of, args))
        _thread.recording.calls.append(Call(function, values, output))
        return TracedNumber(output)

    return operate


_ARITHMETIC = {
    "add": (np.add, operator.add),
    "sub": (np.subtract, operator.sub),
    "mul": (np.multiply, operator.mul),
    "truediv": (np.true_divide, operator.truediv),
    "pow": (np.power, operator.pow),
}
_BITWISE = {"and": (np.bitwise_and, operator.and_), "or": (np.bitwise_or, operator.or_)}
_UNARY = {"neg": (np.negative, operator.neg), "abs": (np.absolute, operator.abs)}
_OTHERS = {
    "invert": (np.invert, operator.invert),
    "lt": (np.less, operator.lt),
    "le": (np.less_equal, operator.le),
    "gt": (np.greater, operator.gt),
    "ge": (np.greater_equal, operator.ge),
    "eq": (np.equal, operator.eq),
    "ne": (np.not_equal, operator.ne),
}
for _name, _functions in (_ARITHMETIC | _BITWISE | _UNARY | _OTHERS).items():
    setattr(Traced, f"__{_name}__", _operator(*_functions))
for _name, _functions in (_ARITHMETIC | _BITWISE).items():
    setattr(Traced, f"__r{_name}__", _operator(*_functions, swapped=True))
for _name, _functions in (_ARITHMETIC | _UNARY).items():
    setattr(TracedNumber, f"__{_name}__", _operator(*_functions))
for _name, _functions in _ARITHMETIC.items():
    setattr(TracedNumber, f"__r{_name}__", _operator(*_functions, swapped=True))
