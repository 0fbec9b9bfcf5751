"""The plan of a recording on NumPy: its calls, each bound to its own arrays, as one Python function."""

from __future__ import annotations

import functools
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
    helpers_for,
    shape_in,
    written,
)
from anyprop.compiled.operation import Operation, SharedOperation, kernel_operation
from anyprop.compiled.program import Bound, Local, Program
from anyprop.compiled.trace import OUT, Call, Value

# Bytes that are copied in less time than it takes to find out where an array lies.
_SMALL = 16_384


class Plan(NamedTuple):
    """Repeats a program."""

    run: Callable[..., None]
    """Repeats it, given the arguments of this run, on what the other arrays hold now."""
    calls: list[Bound]
    """What `run` does."""
    outputs: list[Any]
    """Results that the caller reads; the same arrays after every run."""
    complete: bool
    """Whether everything that can be fused has been; False if the arrays are too small for that."""


def make_plan(program: Program, *, small_too: bool = False) -> Plan:
    """Bind the calls of a program to arrays, in loops even if all are small with `small_too`."""
    # A broken numba is detected when a loop is compiled, in the middle of the plan, which is then
    # repeated.
    try:
        return Calls(program).plan(fuse=True, small_too=small_too)
    except NoKernelError:
        return Calls(program).plan(fuse=False)


class Calls(Binding):
    """Calls on arrays of NumPy, each one bound to its own."""

    shares = True
    """Whether cores that are idle may help with long loops."""

    def __init__(self, program: Program) -> None:
        super().__init__(NUMBA, {})
        self._program = program
        # Places are found once, in the recorded run, so each Local has an example from it.
        self._examples: list[Any] = []  # what each Local holds in the recorded run
        self.bound: list[Bound] = []

    def plan(self, *, fuse: bool, small_too: bool = False) -> Plan:
        """Find a place for every value, and bind the calls to the places."""
        calls, results, targets, arguments = self._program
        numbers = (call.output for call in calls if call.output.is_number)
        for value in (*arguments, *numbers):
            self._places[value] = self._new_local(value.data)
        # Before calls are grouped, as a join between them would split a loop.
        calls = self.place_joined(calls)
        # After a product, the threads of the BLAS keep the other cores busy for a while.
        self._share = self.shares and all(call.function is not np.matmul for call in calls)
        units: list[Call | Kernel] = [*calls]
        if fuse:
            units = fused(calls, results, self.wholes, small_too=small_too)
        outputs = self.bind_all(units, results, targets)
        has_loops = any(isinstance(unit, Kernel) for unit in units)
        run = unrolled(self.bound, len(arguments))
        complete = has_loops or small_too or not fuse
        return Plan(run, self.bound, outputs, complete)

    def bind(self, unit: Call | Kernel, places: list[Any]) -> None:
        """Append the call of NumPy, or of a loop."""
        if isinstance(unit, Kernel):
            of_all = dict.fromkeys([*unit.inputs, *unit.outputs])
            shaped = {
                value: self._shaped(self.place(value), shape_in(unit, value)) for value in of_all
            }
            helpers = helpers_for(unit) if self._share else 0
            source, *works_on = written(unit, shaped, shared=helpers > 0)
            arrays, sizes, numbers = works_on
            loop = (get_kernel(source), arrays, sizes, numbers)
            self.operate(SharedOperation(*loop, helpers) if helpers else kernel_operation(*loop))
            return
        if unit.function is join:
            self.copy_pieces(unit)
            return
        (out,) = places
        if isinstance(out, Local):
            given = tuple(self.place(x) if isinstance(x, Value) else x for x in unit.arguments)
            self.bound.append(Bound(unit.function, given, result=out))
            return
        arguments = [
            out if x is OUT else self.place(x) if isinstance(x, Value) else x
            for x in unit.arguments
        ]
        # As a keyword, where a function has it last: some refuse it as a positional argument.
        last = arguments.pop() if unit.arguments[-1] is OUT else None
        self.bound.append(Bound(unit.function, tuple(arguments), last))

    def operate(self, operation: Operation | SharedOperation) -> None:
        """Append what is called by address."""
        self.bound += [*(cell.bound for cell in operation.cells), operation.bound]

    def copy(self, value: Value, place: Any) -> None:
        """Append a copy."""
        self.bound.append(Bound(np.copyto, (place, self.place(value))))

    def constant(self, value: Value) -> Any:
        """Return the array of the recorded run, whatever it will hold later."""
        return value.data

    def view(self, value: Value, place: Any) -> Any:
        """Return a view; of what differs from run to run, one that each run makes."""
        assert value.view is not None
        return self._each_time(value.view, place) if isinstance(place, Local) else value.view(place)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new array."""
        return np.empty(shape, dtype)

    def _shaped(self, place: Any, shape: tuple[int, ...] | None) -> Any:
        """Return a contiguous array in another shape, or a number as it is."""
        if shape is None:
            return place
        if not isinstance(place, Local):
            return place.reshape(shape)
        example = self._examples[place.number]
        if example.nbytes > _SMALL:
            return self._each_time(partial(_contiguous, shape), place)
        buffer = self.empty(example.shape, example.dtype)
        self.bound.append(Bound(np.copyto, (buffer, place)))
        return buffer.reshape(shape)

    def _each_time(self, function: Callable[[Any], Any], argument: Local) -> Local:
        result = self._new_local(function(self._examples[argument.number]))
        self.bound.append(Bound(function, (argument,), result=result))
        return result

    def _new_local(self, example: Any) -> Local:
        self._examples.append(example)
        return Local(len(self._examples) - 1)


def _contiguous(shape: tuple[int, ...], array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(shape)


def unrolled(calls: Sequence[Bound], count: int) -> Callable[..., None]:
    """Return one function of all calls, whose `count` arguments are the first locals.

    A loop over the calls would take longer than many of them.
    """
    # By identity, as arrays that are equal are different places. `calls` keeps all of them alive.
    constants: dict[int, tuple[str, Any]] = {}

    def name(x: Any) -> str:
        if isinstance(x, Local):
            return f"x{x.number}"
        return constants.setdefault(id(x), (f"c{len(constants)}", x))[0]

    # Names alone are in the source, never numbers or addresses, so calls of one structure share it.
    lines = []
    for function, given, out, result in calls:
        stored = "" if result is None else f"{name(result)} = "
        names = [*map(name, given), *([] if out is None else [f"out={name(out)}"])]
        lines.append(f"{stored}{name(function)}({', '.join(names)})")
    arguments = ", ".join(f"x{i}" for i in range(count))
    body = "\n  ".join([f" def run({arguments}):", *lines, "return None"])
    closed_over = ", ".join(name for name, _ in constants.values())
    make = _maker(f"def make({closed_over}):\n{body}\n return run\n")
    return make(*(constant for _, constant in constants.values()))


@functools.lru_cache(maxsize=64)
def _maker(source: str) -> Callable[..., Callable[..., None]]:
    """Compile the source, which is the same for calls of the same structure."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    make: Callable[..., Callable[..., None]] = scope["make"]
    return make
