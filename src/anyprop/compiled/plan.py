"""A recording turned into calls that repeat it, every result in a buffer that later runs use again.

Four things make it cheap. A buffer goes back into a pool after the last call that reads it, so a step
works in little memory. An elementwise call may write over an input that nobody reads afterwards. The
vectors that are joined into the gradient are computed in their places in it. And elementwise calls and
sums that follow each other become one loop where numba is installed (`fusion.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop.compiled.fusion import fused
from anyprop.compiled.kernels import NoKernelError, get_kernel
from anyprop.compiled.loops import Loop
from anyprop.compiled.namespace import join
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
        return _Planner(given, fuse=True, small_too=small_too).plan(recording, results, wanted)
    except NoKernelError:
        return _Planner(given, fuse=False).plan(recording, results, wanted)


class _Planner:
    """Where the values of one recording lie; forgotten once the plan is made."""

    def __init__(self, arguments: list[Value], *, fuse: bool, small_too: bool = False) -> None:
        self._fuse, self._small_too = fuse, small_too
        self._count = len(arguments)
        # An array, or a Local for what differs from run to run.
        self._arrays: dict[Value, Any] = {}
        self._examples: list[Any] = []  # what each Local holds in the recorded run
        for value in arguments:
            self._arrays[value] = self._new_local(value.data)
        self._places: dict[Value, tuple[Value, int]] = {}
        self._pool: dict[tuple[int, Any], list[Any]] = {}
        self._bound: list[Bound] = []
        self._nbytes = 0

    def plan(self, recording: Recording, results: list[Value], targets: list[Value | None]) -> Plan:
        """Give every value a place, and bind the calls to the places."""
        joined = self._without_joins(recording.calls)
        calls: list[Call | Loop] = [*joined]
        if self._fuse:
            calls = fused(joined, [*results, *self._places], small_too=self._small_too)
        has_loops = any(isinstance(call, Loop) for call in calls)
        complete = has_loops or self._small_too or not self._fuse
        self._last_use = self._find_last_uses(calls, results)
        late = self._take_targets(calls, results, targets)
        for i, call in enumerate(calls):
            self._bind(call, i)
        for target, result in late:
            self._bound.append(Bound(np.copyto, (target.data, self._array(result))))
        outputs = [self._array(result) for result in results]
        run = unrolled(self._bound, self._count)
        return Plan(run, self._bound, outputs, self._nbytes, complete)

    def _without_joins(self, calls: list[Call]) -> list[Call]:
        """Drop the joins whose pieces can all be computed in their places."""
        kept = []
        for call in calls:
            bases = [piece.base for piece in call.inputs]
            whole = (
                call.function is join
                and len(set(bases)) == len(bases)
                and all(
                    not base.given and base not in self._places and base.size == piece.size
                    for base, piece in zip(bases, call.inputs, strict=True)
                )
            )
            if not whole:
                kept.append(call)
                continue
            start = 0
            for base in bases:
                self._places[base] = (call.output, start)
                start += base.size
        return kept

    def _memory(self, value: Value) -> Value:
        """Find the value in whose memory this one lies."""
        value = value.base
        while value in self._places:
            value = self._places[value][0]
        return value

    def _find_last_uses(
        self, calls: Sequence[Call | Loop], results: list[Value]
    ) -> dict[Value, float]:
        last: dict[Value, float] = {}
        for i, call in enumerate(calls):
            for value in (*call.inputs, *call.outputs):
                last[self._memory(value)] = i
        return last | {self._memory(result): math.inf for result in results}

    def _take_targets(
        self, calls: Sequence[Call | Loop], results: list[Value], targets: list[Value | None]
    ) -> list[tuple[Value, Value]]:
        """Let results be computed in their targets; list those that must be copied there."""
        producers = {output: i for i, call in enumerate(calls) for output in call.outputs}
        late = []
        for result, target in zip(results, targets, strict=False):
            if target is None:
                continue
            producer = producers.get(result)
            free = (
                producer is not None
                and result in calls[producer].in_place
                and result.shape == target.shape
                and self._last_use.get(target, -1) <= producer
                and result not in self._arrays
            )
            if free:
                self._arrays[result] = target.data
            else:
                late.append((target, result))
        return late

    def _bind(self, call: Call | Loop, i: int) -> None:
        """Append the call, bound to the places of what it reads and computes."""
        if isinstance(call, Call) and call.output.is_number:
            places = tuple(map(self._place, call.arguments))
            result = self._arrays[call.output] = self._new_local(call.output.data)
            self._bound.append(Bound(call.function, places, result=result))
            return
        inputs = {value: self._array(value) for value in call.inputs}
        done = {m for m in map(self._memory, inputs) if self._last_use[m] == i and not m.given}
        # An elementwise call may write over what it reads last; where a transposed or broadcast input
        # would be in the way, NumPy sees the overlap and takes a copy.
        for output in call.outputs:
            if output not in call.in_place:
                self._array(output)
        self._release(done)
        outputs = [self._array(output) for output in call.outputs]
        if isinstance(call, Call):
            given = [outputs[0] if x is OUT else self._place(x) for x in call.arguments]
            # As a keyword, where a function has it last: some refuse it by its place.
            out = given.pop() if call.arguments[-1] is OUT else None
            self._bound.append(Bound(call.function, tuple(given), out))
            return
        lying = inputs | dict(zip(call.outputs, outputs, strict=True))
        shaped = {value: self._shaped(place, call.form(value)) for value, place in lying.items()}
        source, arguments = call.source(shaped)
        examples = [self._examples[x.number] if isinstance(x, Local) else x for x in arguments]
        self._bound.append(Bound(get_kernel(source, examples), tuple(arguments)))

    def _shaped(self, place: Any, shape: tuple[int, ...] | None) -> Any:
        """Give a contiguous array another shape, or a number as it is."""
        if shape is None:
            return place
        if isinstance(place, Local):
            return self._call(partial(_contiguous, shape), place)
        return place.reshape(shape)

    def _release(self, values: Iterable[Value]) -> None:
        for value in values:
            array = self._arrays[value]
            if isinstance(array, np.ndarray):
                self._pool.setdefault((array.size, array.dtype), []).append(array.reshape(-1))

    def _place(self, x: Any) -> Any:
        return self._array(x) if isinstance(x, Value) else x

    def _array(self, value: Value) -> Any:
        """Give the array of a value in every run of the plan, or the local that holds it."""
        if value not in self._arrays:
            self._arrays[value] = self._new_array(value)
        return self._arrays[value]

    def _new_array(self, value: Value) -> Any:
        if value.given:
            return value.data
        if value.parent is not None and value.view is not None:
            parent = self._array(value.parent)
            if isinstance(parent, Local):
                return self._call(value.view, parent)
            return value.view(parent)
        size, shape = value.size, value.shape
        if value in self._places:
            whole, start = self._places[value]
            return self._array(whole)[start : start + size].reshape(shape)
        free = self._pool.get((size, value.dtype))
        if free:
            return free.pop().reshape(shape)
        buffer = np.empty(shape, value.dtype)
        self._nbytes += buffer.nbytes
        return buffer

    def _call(self, function: Callable[[Any], Any], argument: Local) -> Local:
        result = self._new_local(function(self._examples[argument.number]))
        self._bound.append(Bound(function, (argument,), result=result))
        return result

    def _new_local(self, example: Any) -> Local:
        self._examples.append(example)
        return Local(len(self._examples) - 1)


def _contiguous(shape: tuple[int, ...], array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(shape)
