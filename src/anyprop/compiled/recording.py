"""What a step does, written down while it runs for the first time.

A `Traced` stands for a NumPy array, and a `TracedNumber` for a Python float that differs from step to
step, such as the learning rate. Each operation on them is done at once, so the recorded run gives
ordinary results, and is kept as a `Call`: what to call, on which values, for which result. `traced.py`
is the namespace of these arrays; `plan.py` gives the results of a recording buffers of their own.
"""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_thread = threading.local()

OUT = object()
"""Stands in the arguments of a recorded call for the array that takes its result."""


class TraceError(TypeError):
    """A step does what cannot be repeated from a recording; it has to run eagerly."""


class Value:
    """One array or number of a recording.

    Parameters
    ----------
    data : numpy.ndarray or float
        What it was in the recorded run.
    given : bool
        Whether it was there before the run: an argument or a constant, not a result.
    parent : Value, optional
        What it is a view of.
    view : callable, optional
        Makes the view out of the parent's array.
    """

    __slots__ = ("data", "given", "parent", "view")

    def __init__(
        self,
        data: Any,
        *,
        given: bool = False,
        parent: Value | None = None,
        view: Callable[[Any], Any] | None = None,
    ) -> None:
        self.data, self.given, self.parent, self.view = data, given, parent, view

    @property
    def base(self) -> Value:
        """The value whose memory this one lies in."""
        value = self
        while value.parent is not None:
            value = value.parent
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of an array's dimensions."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> Any:
        """Data type of an array."""
        return self.data.dtype

    @property
    def is_number(self) -> bool:
        """Whether it is a Python number, which needs no buffer."""
        return not isinstance(self.data, np.ndarray)


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of a recording.

    Parameters
    ----------
    function : callable
        What to call; it stores its result in the array that stands for OUT, or returns a number.
    arguments : tuple of Value, OUT and constants
        On what, in the order of the function.
    output : Value
        What it computes.
    elementwise : bool
        Whether each number of the output depends on the inputs' numbers at its own place alone and is
        written when those have been read, so that the output may take the place of an input.
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
        """What it computes, as a fused call lists it too."""
        return (self.output,)


class Recording:
    """The calls that one function made; as a context, it collects those of its thread."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __enter__(self) -> Recording:
        self._outer = getattr(_thread, "recording", None)
        _thread.recording = self
        return self

    def __exit__(self, *exception: object) -> None:
        _thread.recording = self._outer

    @staticmethod
    def given(array: Any) -> Traced:
        """Let an array take part as an argument or a constant."""
        return Traced(Value(np.asarray(array), given=True))

    @staticmethod
    def number(number: float) -> TracedNumber:
        """Let a number take part that may be another one in each run."""
        return TracedNumber(Value(float(number), given=True))


def record(
    function: Callable[..., Any], arguments: list[Any], data: Any, *, elementwise: bool = False
) -> Traced:
    """Append a call that gave `data` to the recording of this thread."""
    output = Value(np.asarray(data))
    values = tuple(map(value_of, arguments))
    _thread.recording.calls.append(Call(function, values, output, elementwise))
    return Traced(output)


def value_of(x: Any) -> Any:
    """Give the value that a traced object stands for; what is not traced passes through."""
    return x.value if isinstance(x, (Traced, TracedNumber)) else x


def data_of(x: Any) -> Any:
    """Give what a traced object stands for; what is not traced passes through."""
    return x.value.data if isinstance(x, (Traced, TracedNumber)) else x


def apply(ufunc: Callable[..., Any], *args: Any) -> Traced:
    """Do a universal function, or another elementwise one that takes `out` last."""
    operands = [Recording.given(x) if isinstance(x, np.ndarray) else x for x in args]
    return record(ufunc, [*operands, OUT], ufunc(*map(data_of, args)), elementwise=True)


def view(x: Traced, function: Callable[[Any], Any]) -> Traced:
    """Do an operation that gives a view, or a copy where NumPy cannot make a view."""
    data = function(x.value.data)
    if np.may_share_memory(data, x.value.data) or data.size == 0:
        return Traced(Value(data, parent=x.value, view=function))
    return record(lambda array, out: np.copyto(out, function(array)), [x, OUT], data)


def _refuse(self: Any, *args: Any) -> Any:
    raise TraceError("it reads numbers out of an array, or writes into one")


class Traced:
    """An array of the namespace `traced`, standing for a NumPy array."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]
    device = "cpu"

    def __init__(self, value: Value) -> None:
        self.value = value

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules["anyprop.compiled.traced"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(self.value.data.shape)

    @property
    def dtype(self) -> Any:
        """Data type."""
        return self.value.data.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return int(self.value.data.ndim)

    @property
    def size(self) -> int:
        """Number of numbers."""
        return int(self.value.data.size)

    @property
    def T(self) -> Traced:
        """The transposed matrix."""
        return view(self, lambda array: array.T)

    def __getitem__(self, key: Any) -> Traced:
        return view(self, lambda array: array[key])

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = __setitem__ = _refuse


class TracedNumber:
    """A number that stands for a Python float, and counts as little in type promotion as one."""

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
        output = Value(function(*map(data_of, args)))
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
