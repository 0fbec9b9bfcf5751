"""What a step does, written down while it runs for the first time.

A `Traced` stands for a NumPy array. Each operation on it is done at once, so the recorded run gives
ordinary results, and is kept as a `Call`: what to call, on which values, for which result. `traced.py`
is the namespace of these arrays; `plan.py` gives the results of a recording buffers of their own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

_thread = threading.local()

Bind: TypeAlias = Callable[[list[Any], Any], Callable[[], Any]]
"""``(inputs, out) -> call``: what repeats an operation, given where its arrays lie."""


class TraceError(TypeError):
    """A step does what cannot be repeated from a recording; it has to run eagerly."""


class Value:
    """One array of a recording.

    Parameters
    ----------
    data : numpy.ndarray
        Its numbers in the recorded run.
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


@dataclass(frozen=True, eq=False)
class Call:
    """One operation of a recording.

    Parameters
    ----------
    bind : callable
        Makes what repeats the operation, given the arrays of the inputs and of the output.
    inputs : list of Value or numbers
        What it reads.
    output : Value
        What it computes.
    elementwise : bool
        Whether each number of the output depends on the inputs' numbers at its own place alone, so
        that the output may take the place of an input.
    """

    bind: Bind
    inputs: list[Any]
    output: Value
    elementwise: bool = False


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


def record(bind: Bind, inputs: list[Any], data: Any, *, elementwise: bool = False) -> Traced:
    """Append a call that gave `data` to the recording of this thread."""
    output = Value(np.asarray(data))
    values = [value_of(x) for x in inputs]
    _thread.recording.calls.append(Call(bind, values, output, elementwise))
    return Traced(output)


def value_of(x: Any) -> Any:
    """Give the value that a traced array stands for; numbers pass through."""
    return x.value if isinstance(x, Traced) else x


def data_of(x: Any) -> Any:
    """Give the NumPy array that a traced array stands for; numbers pass through."""
    return x.value.data if isinstance(x, Traced) else x


def apply(ufunc: Callable[..., Any], *args: Any) -> Traced:
    """Do a universal function, or another elementwise one that takes `out`."""
    data = ufunc(*map(data_of, args))
    return record(
        lambda inputs, out: partial(ufunc, *inputs, out=out), list(args), data, elementwise=True
    )


def view(x: Traced, function: Callable[[Any], Any]) -> Traced:
    """Do an operation that gives a view, or a copy where NumPy cannot make a view."""
    data = function(x.value.data)
    if np.may_share_memory(data, x.value.data) or data.size == 0:
        return Traced(Value(data, parent=x.value, view=function))
    return record(lambda inputs, out: lambda: np.copyto(out, function(*inputs)), [x], data)


def _refuse(self: Traced, *args: Any) -> Any:
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


def _operator(ufunc: Any, *, swapped: bool = False) -> Callable[..., Traced]:
    if ufunc.nin == 1:
        return lambda self: apply(ufunc, self)
    if swapped:
        return lambda self, other: apply(ufunc, other, self)
    return lambda self, other: apply(ufunc, self, other)


_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
}
_OTHERS = {
    "neg": np.negative,
    "abs": np.absolute,
    "invert": np.invert,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
for _name, _ufunc in (_ARITHMETIC | _OTHERS).items():
    setattr(Traced, f"__{_name}__", _operator(_ufunc))
for _name, _ufunc in _ARITHMETIC.items():
    setattr(Traced, f"__r{_name}__", _operator(_ufunc, swapped=True))
