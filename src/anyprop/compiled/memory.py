"""Where every value of a recording is kept: units bound to arrays, of which many values share one.

Four rules keep the memory of a step small and its copies few.

- The memory of a value is free again after the last unit that reads it.
- A result may be stored over an input that is read there for the last time, if the dialect allows it.
- What is joined into one vector, as gradients are, is computed in its place within it.
- What the caller wants in an array of its own, its target, is computed there if nothing reads the
  array later, and copied there at the end otherwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from anyprop.compiled.kernels import Dialect, Kernel, Unit
from anyprop.compiled.namespace import join
from anyprop.compiled.trace import Call, Value
from anyprop.repeatable.stand_in import TraceError


class Local(NamedTuple):
    """What differs from run to run: an argument of the function, or the result of one of its calls."""

    number: int


class Bound(NamedTuple):
    """A call: its arguments, its `out`, and what takes the returned value."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    out: Any = None
    result: Local | None = None


class Binding(ABC):
    """Binds units to the arrays that they read and write.

    A backend says how its arrays are created and what is called, in the methods that are abstract
    here.

    Parameters
    ----------
    dialect : Dialect
        In which kernels are written.
    arguments : mapping of Value to object
        Where given values are that differ from run to run.
    """

    def __init__(self, dialect: Dialect, arguments: Mapping[Value, Any]) -> None:
        self._dialect = dialect
        self._places = dict(arguments)
        # For what is computed within a joined vector: that vector, and where it begins there.
        self._within: dict[Value, tuple[Value, int]] = {}
        self._free: dict[tuple[int, str], list[Any]] = {}

    @abstractmethod
    def bind_kernel(self, kernel: Kernel, places: list[Any]) -> None:
        """Add a kernel to what is done; `places` are those of its outputs."""

    @abstractmethod
    def bind_call(self, call: Call, out: Any) -> None:
        """Add a call to what is done, whose output is in the place `out`."""

    @abstractmethod
    def copy(self, value: Value, place: Any) -> None:
        """Add a copy of a value to a place to what is done."""

    @abstractmethod
    def constant(self, value: Value) -> Any:
        """Return the array of a given value."""

    @abstractmethod
    def view(self, value: Value, place: Any) -> Any:
        """Return a value as a view of the place of its parent."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new array."""

    @property
    def wholes(self) -> dict[Value, Value]:
        """For each result that is computed within a joined vector, that vector."""
        return {piece: whole for piece, (whole, _) in self._within.items()}

    def place_joined(self, calls: list[Call]) -> list[Call]:
        """Choose what is computed within joined vectors; return the calls that remain."""
        made = {call.output for call in calls}
        kept = []
        # From the last, so that what is joined may be joined with others in turn.
        for call in reversed(calls):
            placed = []
            for vector, start in _pieces(call) if call.function is join else ():
                source = vector.base
                free = (
                    source in made
                    and source not in self._within
                    and vector.dtype == source.dtype == call.output.dtype
                    and vector.size == source.size
                    # or it is a view that goes through its numbers in another order
                    and vector.stand_in().flags.c_contiguous
                )
                placed.append(free)
                if free:
                    # Only the first join found has it; a value can be computed in one place alone.
                    self._within[source] = call.output, start
            # Without a piece to copy, nothing is left of a join.
            if not placed or not all(placed):
                kept.append(call)
        return kept[::-1]

    def bind_all(
        self,
        units: Sequence[Call | Kernel],
        results: Sequence[Value],
        targets: Sequence[Value | None],
    ) -> list[Any]:
        """Bind units in their order.

        Parameters
        ----------
        units : sequence of Call or Kernel
            Of calls that `place_joined` has seen.
        results : sequence of Value
            What is read after the last unit.
        targets : sequence of Value or None
            For each result, from the first, the given value in whose memory it should be at the end.

        Returns
        -------
        list
            The places of the results.

        Raises
        ------
        TraceError
            A result is an argument that is written over before it could be copied to its target.
        """
        # By the memory that a value is in: a view or a piece of a whole keeps all of it in use.
        last: dict[Value, float] = {}
        for i, unit in enumerate(units):
            last |= {self._memory(value): i for value in (*unit.inputs, *unit.outputs)}
        # A result has to outlast all units, so its memory goes to no other value.
        last |= {self._memory(result): math.inf for result in results}
        late = self._take_targets(units, results, targets, last)
        ended: list[list[Value]] = [[] for _ in units]
        # Given arrays are the caller's and never free; results are still read when all is done.
        for value, end in last.items():
            if end < len(units) and not value.given:
                ended[int(end)].append(value)
        # Targets were taken before the first place is found, as a value that has a place keeps it.
        for unit, values in zip(units, ended, strict=True):
            self._bind(unit, values)
        for result, target in late:
            self.copy(result, self.place(target))
        return [self.place(result) for result in results]

    def _take_targets(
        self,
        units: Sequence[Call | Kernel],
        results: Sequence[Value],
        targets: Sequence[Value | None],
        last: Mapping[Value, float],
    ) -> list[tuple[Value, Value]]:
        """Store results in their targets; return those that must be copied there."""
        makers = {output: i for i, unit in enumerate(units) for output in unit.outputs}
        late = []
        for result, target in zip(results, targets, strict=False):
            if target is None or result is target:
                continue
            # The copies are made at the end, one by one, when another result may already be there.
            if result.base.given and result.base in targets:
                raise TraceError("it returns an argument in another place")
            i = makers.get(result, -1)
            # In place only if nothing reads the old numbers later, or in the unit at other places.
            if (
                i >= 0
                and result in self._dialect.in_place(units[i])
                and result not in self._within
                and result not in self._places
                and result.shape == target.shape
                and last.get(target, -1) <= i
                and self._reads_alike(units[i], target)
            ):
                self._places[result] = self.place(target)
            else:
                late.append((result, target))
        return late

    def _bind(self, unit: Call | Kernel, ended: Iterable[Value]) -> None:
        """Find places for the outputs of a unit, free what it reads for the last time, and bind it."""
        # First, as a view of an argument is itself a call, which has to come before the unit's.
        for value in unit.inputs:
            self.place(value)
        # What may not lie over an input gets its place while all inputs still hold theirs.
        over = self._dialect.in_place(unit) if self._dialect.reuses else ()
        for value in unit.outputs:
            if value not in over:
                self.place(value)
        # What may be written over is free before the outputs get their places, all else after them.
        alike = [value for value in ended if self._reads_alike(unit, value)]
        self._release(alike)
        places = [self.place(value) for value in unit.outputs]
        # Only now, for the next unit: over these no output of this one, which reads them, may be stored.
        self._release(set(ended).difference(alike))
        if isinstance(unit, Kernel):
            self.bind_kernel(unit, places)
        elif unit.function is join:
            self._copy_pieces(unit)
        else:
            self.bind_call(unit, *places)

    def _reads_alike(self, unit: Unit, memory: Value) -> bool:
        """Return whether a unit reads each number of a memory only for the result at the same place."""
        # A call of NumPy detects an overlap with an input itself, and takes a copy.
        return isinstance(unit, Call) or all(
            value is memory for value in unit.inputs if self._memory(value) is memory
        )

    def _memory(self, value: Value) -> Value:
        """Return the value in whose memory this one is."""
        value = value.base
        while value in self._within:
            value = self._within[value][0]
        return value

    def _release(self, values: Iterable[Value]) -> None:
        for value in values:
            # Without its shape, as the next to take it may have another of the same size.
            array = self.place(value).reshape(-1)
            self._free.setdefault((array.size, str(array.dtype)), []).append(array)

    def place(self, value: Value) -> Any:
        """Return where a value is kept."""
        if value not in self._places:
            self._places[value] = self._new_place(value)
        return self._places[value]

    def arguments(self, call: Call) -> list[Any]:
        """List the arguments of a call, with the places of values."""
        return [self.place(x) if isinstance(x, Value) else x for x in call.arguments]

    def _new_place(self, value: Value) -> Any:
        if value.given:
            return self.constant(value)
        if value.parent is not None:
            return self.view(value, self.place(value.parent))
        # Only memory of the same size and dtype: a step has few sizes, and buffers need no cutting.
        size, shape = value.size, tuple(value.shape)
        if value in self._within:
            whole, start = self._within[value]
            # The whole is placed by the first of its pieces, and stays as long as any of them is read.
            return self.place(whole)[start : start + size].reshape(shape)
        free = self._free.get((size, str(value.dtype)))
        return free.pop().reshape(shape) if free else self.empty(shape, value.dtype)

    def _copy_pieces(self, call: Call) -> None:
        """Bind a join: copy what is not computed in its place."""
        whole = self.place(call.output)
        for vector, start in _pieces(call):
            # A piece that was computed elsewhere, or within another vector, is missing here.
            if self._within.get(vector.base) != (call.output, start):
                self.copy(vector, whole[start : start + vector.size])


def _pieces(call: Call) -> Iterator[tuple[Value, int]]:
    """Yield the vectors that are joined, each with the place where it begins."""
    start = 0
    for vector in call.inputs:
        yield vector, start
        start += vector.size
