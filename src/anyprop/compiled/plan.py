"""A recording turned into calls that repeat it, every result in a buffer that later runs use again.

Three things make it cheap. A buffer goes back into a pool after the last call that reads it, so a step
works in little memory. An elementwise call may write over an input that nobody reads afterwards. And the
vectors that are joined into the gradient are computed in their places in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop.compiled.recording import Call, Recording, Traced, Value
from anyprop.compiled.traced import join


class Plan(NamedTuple):
    """What repeats a recording.

    Parameters
    ----------
    calls : list of callables
        Each repeats one operation, on what the arguments' arrays hold now.
    outputs : list of numpy.ndarray
        Results that the caller reads; the same arrays after every run.
    nbytes : int
        Memory of the buffers, in bytes.
    """

    calls: list[Callable[[], Any]]
    outputs: list[Any]
    nbytes: int

    def run(self) -> None:
        """Repeat the recording."""
        for call in self.calls:
            call()


def make_plan(
    recording: Recording, outputs: Sequence[Traced], targets: Sequence[Traced | None] = ()
) -> Plan:
    """Give the results of a recording their buffers.

    Parameters
    ----------
    recording : Recording
        The calls of the first run.
    outputs : sequence of Traced
        Results that the caller reads.
    targets : sequence of Traced or None
        For each output, from the first, the argument in whose memory it shall end up, if any.

    Returns
    -------
    Plan
        Repeats the recording; holds nothing of the first run.
    """
    results = [output.value for output in outputs]
    return _Planner().plan(recording, results, [None if t is None else t.value for t in targets])


class _Planner:
    """Where the values of one recording lie; forgotten once the plan is made."""

    def __init__(self) -> None:
        self._arrays: dict[Value, Any] = {}
        self._places: dict[Value, tuple[Value, int]] = {}
        self._pool: dict[tuple[int, Any], list[Any]] = {}

    def plan(self, recording: Recording, results: list[Value], targets: list[Value | None]) -> Plan:
        """Give every value an array, and bind the calls to the arrays."""
        calls = self._without_joins(recording.calls)
        self._last_use = self._find_last_uses(calls, results)
        late = self._take_targets(calls, results, targets)
        bound = [self._bound(call, i) for i, call in enumerate(calls)]
        for target, result in late:
            bound.append(partial(np.copyto, target.data, self._array(result)))
        outputs = [self._array(result) for result in results]
        made = [array for value, array in self._arrays.items() if not value.given]
        owners = {id(o): o for o in (a if a.base is None else a.base for a in made)}
        return Plan(bound, outputs, sum(owner.nbytes for owner in owners.values()))

    def _without_joins(self, calls: list[Call]) -> list[Call]:
        """Drop the joins whose pieces can all be computed in their places."""
        kept = []
        for call in calls:
            bases = [piece.base for piece in call.inputs if isinstance(piece, Value)]
            whole = (
                call.bind is join
                and len(set(bases)) == len(bases)
                and all(
                    not base.given
                    and base not in self._places
                    and base.data.size == piece.data.size
                    for base, piece in zip(bases, call.inputs, strict=True)
                )
            )
            if not whole:
                kept.append(call)
                continue
            start = 0
            for base in bases:
                self._places[base] = (call.output, start)
                start += base.data.size
        return kept

    def _memory(self, value: Value) -> Value:
        """Find the value in whose memory this one lies."""
        value = value.base
        while value in self._places:
            value = self._places[value][0]
        return value

    def _find_last_uses(self, calls: list[Call], results: list[Value]) -> dict[Value, float]:
        last: dict[Value, float] = {}
        for i, call in enumerate(calls):
            for value in (*call.inputs, call.output):
                if isinstance(value, Value):
                    last[self._memory(value)] = i
        return last | {self._memory(result): math.inf for result in results}

    def _take_targets(
        self, calls: list[Call], results: list[Value], targets: list[Value | None]
    ) -> list[tuple[Value, Value]]:
        """Let results be computed in their targets; list those that must be copied there."""
        producers = {call.output: i for i, call in enumerate(calls)}
        late = []
        for result, target in zip(results, targets, strict=False):
            if target is None:
                continue
            producer = producers.get(result)
            free = (
                producer is not None
                and calls[producer].elementwise
                and result.data.shape == target.data.shape
                and self._last_use.get(target, -1) <= producer
                and result not in self._arrays
            )
            if free:
                self._arrays[result] = target.data
            else:
                late.append((target, result))
        return late

    def _bound(self, call: Call, i: int) -> Callable[[], Any]:
        inputs = [self._array(x) if isinstance(x, Value) else x for x in call.inputs]
        values = [x for x in call.inputs if isinstance(x, Value)]
        done = {m for m in map(self._memory, values) if self._last_use[m] == i and not m.given}
        # An elementwise call may write over what it reads last; where a transposed or broadcast input
        # would be in the way, NumPy sees the overlap and takes a copy.
        if call.elementwise:
            self._release(done)
            out = self._array(call.output)
        else:
            out = self._array(call.output)
            self._release(done)
        return call.bind(inputs, out)

    def _release(self, values: set[Value]) -> None:
        for value in values:
            array = self._arrays[value]
            self._pool.setdefault((array.size, array.dtype), []).append(array.reshape(-1))

    def _array(self, value: Value) -> Any:
        """Give the array of a value in every run of the plan."""
        if value not in self._arrays:
            self._arrays[value] = self._new_array(value)
        return self._arrays[value]

    def _new_array(self, value: Value) -> Any:
        if value.given:
            return value.data
        if value.parent is not None and value.view is not None:
            return value.view(self._array(value.parent))
        size, shape = value.data.size, value.data.shape
        if value in self._places:
            whole, start = self._places[value]
            return self._array(whole)[start : start + size].reshape(shape)
        free = self._pool.get((size, value.data.dtype))
        return free.pop().reshape(shape) if free else np.empty(shape, value.data.dtype)
