"""A recording turned into calls of NumPy and of numba's loops, each bound to its arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop.compiled.kernels import Kernel
from anyprop.compiled.memory import Binding
from anyprop.compiled.namespace import join
from anyprop.compiled.numba_dialect import (
    NUMBA,
    NoKernelError,
    fused,
    get_kernel,
    shape_in,
    written,
)
from anyprop.compiled.trace import OUT, Call, Recording, Traced, TracedNumber, Value
from anyprop.compiled.unrolled import Bound, Local, unrolled


class Plan(NamedTuple):
    """What repeats a recording.

    Parameters
    ----------
    run : callable
        Repeats it, given the arguments of this run, on what the other arrays hold now.
    calls : list of Bound
        What `run` does.
    outputs : list of numpy.ndarray
        Results that the caller reads; the same arrays after every run.
    nbytes : int
        Memory of its buffers, in bytes; arrays that were given do not count.
    complete : bool
        Whether all is in loops that can be; if not, for the arrays are small.
    """

    run: Callable[..., None]
    calls: list[Bound]
    outputs: list[Any]
    nbytes: int
    complete: bool


def make_plan(
    recording: Recording,
    outputs: Sequence[Traced],
    targets: Sequence[Traced | None] = (),
    arguments: Sequence[Traced | TracedNumber] = (),
    *,
    small_too: bool = False,
) -> Plan:
    """Give the results of a recording their buffers.

    Parameters
    ----------
    recording : Recording
        The calls.
    outputs : sequence of Traced
        Results that the caller reads.
    targets : sequence of Traced or None
        For each output, from the first, the given array in whose memory it shall end up, if any.
    arguments : sequence of Traced or TracedNumber
        What `run` takes; every other given array is read where it was in the recording.
    small_too : bool
        Whether calls become loops even if all arrays are small.

    Returns
    -------
    Plan
        Does what was recorded; holds nothing of the recording but the given arrays.
    """
    results = [output.value for output in outputs]
    wanted = [None if t is None else t.value for t in targets]
    given = [argument.value for argument in arguments]
    try:
        return _Calls(given).plan(recording.calls, results, wanted, fuse=True, small_too=small_too)
    except NoKernelError:
        return _Calls(given).plan(recording.calls, results, wanted, fuse=False)


class _Calls(Binding):
    """Calls on arrays of NumPy, each one bound to its own."""

    def __init__(self, arguments: list[Value]) -> None:
        super().__init__(NUMBA, {})
        self._examples: list[Any] = []  # what each Local holds in the recorded run
        self._bound: list[Bound] = []
        self._nbytes, self._count = 0, len(arguments)
        for value in arguments:
            self._places[value] = self._new_local(value.data)

    def plan(
        self,
        calls: list[Call],
        results: list[Value],
        targets: list[Value | None],
        *,
        fuse: bool,
        small_too: bool = False,
    ) -> Plan:
        """Give every value a place, and bind the calls to the places."""
        for call in calls:
            if call.output.is_number:
                self._places[call.output] = self._new_local(call.output.data)
        calls = self.place_joined(calls)
        units: list[Call | Kernel] = [*calls]
        if fuse:
            units = fused(calls, results, self.wholes, small_too=small_too)
        outputs = self.bind_all(units, results, targets)
        has_loops = any(isinstance(unit, Kernel) for unit in units)
        run = unrolled(self._bound, self._count)
        complete = has_loops or small_too or not fuse
        return Plan(run, self._bound, outputs, self._nbytes, complete)

    def bind(self, unit: Call | Kernel, places: list[Any]) -> None:
        """Append the call of NumPy, or of a loop."""
        if isinstance(unit, Kernel):
            of_all = dict.fromkeys([*unit.inputs, *unit.outputs])
            shaped = {
                value: self._shaped(self.place(value), shape_in(unit, value)) for value in of_all
            }
            source, arguments = written(unit, shaped)
            examples = [self._examples[x.number] if isinstance(x, Local) else x for x in arguments]
            self._bound.append(Bound(get_kernel(source, examples), tuple(arguments)))
            return
        if unit.function is join:
            self.copy_pieces(unit)
            return
        (out,) = places
        if isinstance(out, Local):
            given = tuple(self.place(x) if isinstance(x, Value) else x for x in unit.arguments)
            self._bound.append(Bound(unit.function, given, result=out))
            return
        arguments = [
            out if x is OUT else self.place(x) if isinstance(x, Value) else x
            for x in unit.arguments
        ]
        # As a keyword, where a function has it last: some refuse it by its place.
        last = arguments.pop() if unit.arguments[-1] is OUT else None
        self._bound.append(Bound(unit.function, tuple(arguments), last))

    def copy(self, value: Value, place: Any) -> None:
        """Append a copy."""
        self._bound.append(Bound(np.copyto, (place, self.place(value))))

    def constant(self, value: Value) -> Any:
        """Return the array that was there in the recorded run, whatever it will hold then."""
        return value.data

    def view(self, value: Value, place: Any) -> Any:
        """Return a view; of what differs from run to run, one that each run makes."""
        assert value.view is not None
        return self._each_time(value.view, place) if isinstance(place, Local) else value.view(place)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Make an array, and count it."""
        buffer = np.empty(shape, dtype)
        self._nbytes += buffer.nbytes
        return buffer

    def _shaped(self, place: Any, shape: tuple[int, ...] | None) -> Any:
        """Return a contiguous array in another shape, or a number as it is."""
        if shape is None:
            return place
        if isinstance(place, Local):
            return self._each_time(partial(_contiguous, shape), place)
        return place.reshape(shape)

    def _each_time(self, function: Callable[[Any], Any], argument: Local) -> Local:
        result = self._new_local(function(self._examples[argument.number]))
        self._bound.append(Bound(function, (argument,), result=result))
        return result

    def _new_local(self, example: Any) -> Local:
        self._examples.append(example)
        return Local(len(self._examples) - 1)


def _contiguous(shape: tuple[int, ...], array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(shape)
