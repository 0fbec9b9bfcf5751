"""The plan of a recording on NumPy: its calls, each bound to its own arrays, as one Python function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from anyprop._typing import Tree
from anyprop.compiled.kernels import Kernel, grouped
from anyprop.compiled.memory import Binding, Bound, Local
from anyprop.compiled.numba_dialect import (
    NUMBA,
    NoKernelError,
    are_large,
    get_kernel,
    helpers_for,
    shape_in,
    written,
)
from anyprop.compiled.operation import Operation, SharedOperation, kernel_operation
from anyprop.compiled.program import Program
from anyprop.compiled.trace import OUT, Call, Value

# Bytes that are copied in less time than it takes to find out where an array lies.
_SMALL = 16_384


def make_plan(program: Program, *, small_too: bool = False) -> Plan:
    """Bind the calls of a program to arrays, in loops even if all are small with `small_too`."""
    # A broken numba is detected when a loop is compiled, in the middle of the plan, which is then
    # repeated.
    try:
        return Plan(program, small_too=small_too)
    except NoKernelError:
        return Plan(program, fuse=False)


class Plan(Binding):
    """A program on arrays of NumPy, each call bound to its own.

    Attributes
    ----------
    run : callable
        Repeats the program, given the arguments of this run, on what the other arrays hold now.
    calls : list of Bound
        What it does.
    outputs : list
        Results that the caller reads; the same arrays after every run.
    nbytes : int
        Memory of its buffers; arrays that were given do not count.
    complete : bool
        Whether everything that can be fused has been; False if the arrays are too small for that.
    """

    shares = True
    """Whether cores that are idle may help with long loops."""

    def __init__(self, program: Program, *, fuse: bool = True, small_too: bool = False) -> None:
        super().__init__(NUMBA, {})
        # Places are found once, in the recorded run, so each Local has an example from it.
        self._examples: list[Any] = []  # what each Local holds in the recorded run
        self.calls: list[Bound] = []
        self.nbytes = 0
        numbers = (call.output for call in program.calls if call.output.is_number)
        for value in (*program.arguments, *numbers):
            self._places[value] = self._new_local(value.data)
        # Before calls are grouped, as a join between them would split a loop.
        calls = self.place_joined(program.calls)
        # After a product, the threads of the BLAS keep the other cores busy for a while.
        self._share = self.shares and all(call.function is not np.matmul for call in calls)
        units: list[Call | Kernel] = [*calls]
        if fuse and (small_too or are_large(calls)):
            units = grouped(calls, program.results, NUMBA, self.wholes)
        places = self.bind_all(units, program.results, program.targets)
        self.outputs = [self._kept(place) for place in places]
        self.run = unrolled(self.calls, len(program.arguments))
        has_loops = any(isinstance(unit, Kernel) for unit in units)
        self.complete = has_loops or small_too or not fuse

    def bind_kernel(self, kernel: Kernel, places: list[Any]) -> None:
        """Append a loop, and what puts its arrays into the shapes that it takes."""
        of_all = dict.fromkeys([*kernel.inputs, *kernel.outputs])
        shaped = {v: self._shaped(self.place(v), shape_in(kernel, v)) for v in of_all}
        helpers = helpers_for(kernel) if self._share else 0
        source, arrays, sizes, numbers = written(kernel, shaped, shared=helpers > 0)
        loop = (get_kernel(source), arrays, sizes, numbers)
        self.operate(SharedOperation(*loop, helpers) if helpers else kernel_operation(*loop))

    def bind_call(self, call: Call, out: Any) -> None:
        """Append a call of NumPy, or one on numbers."""
        if isinstance(out, Local):
            self.calls.append(Bound(call.function, tuple(self.arguments(call)), result=out))
            return
        arguments = [out if x is OUT else x for x in self.arguments(call)]
        # As a keyword, where a function has it last: some refuse it as a positional argument.
        last = arguments.pop() if call.arguments[-1] is OUT else None
        self.calls.append(Bound(call.function, tuple(arguments), last))

    def operate(self, operation: Operation | SharedOperation) -> None:
        """Append what is called by address."""
        self.calls += [*(cell.bound for cell in operation.cells), operation.bound]

    def copy(self, value: Value, place: Any) -> None:
        """Append a copy."""
        self._store(self.place(value), place)

    def constant(self, value: Value) -> Any:
        """Return the array of the recorded run, whatever it will hold later."""
        return value.data

    def view(self, value: Value, place: Any) -> Any:
        """Return a view; of what differs from run to run, one that each run makes."""
        assert value.view is not None
        return self._each_time(value.view, place) if isinstance(place, Local) else value.view(place)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new array, and count it."""
        buffer = np.empty(shape, dtype)
        self.nbytes += buffer.nbytes
        return buffer

    def _shaped(self, place: Any, shape: tuple[int, ...] | None) -> Any:
        """Return a contiguous array in another shape, or a number as it is."""
        if shape is None:
            return place
        if not isinstance(place, Local):
            return place.reshape(shape)
        example = self._examples[place.number]
        if example.nbytes > _SMALL:
            return self._each_time(np.ndarray.ravel, place)  # its address is all that a loop takes
        buffer = self.empty(example.shape, example.dtype)
        self._store(place, buffer)
        return buffer.reshape(shape)

    def _store(self, source: Any, place: Any) -> None:
        # np.copyto would do the same, after it has asked whether one is an array of another library.
        self.calls.append(Bound(place.__setitem__, (..., source)))

    def _kept(self, place: Any) -> Any:
        """Return where a result is after a run, which an argument may be, too."""
        if not isinstance(place, Local):
            return place
        example = self._examples[place.number]
        buffer = self.empty(example.shape, example.dtype)
        self._store(place, buffer)
        return buffer

    def _each_time(self, function: Callable[[Any], Any], argument: Local) -> Local:
        result = self._new_local(function(self._examples[argument.number]))
        self.calls.append(Bound(function, (argument,), result=result))
        return result

    def _new_local(self, example: Any) -> Local:
        self._examples.append(example)
        return Local(len(self._examples) - 1)


def unrolled(calls: Sequence[Bound], count: int) -> Callable[..., None]:
    """Return one function of all calls, whose `count` arguments are the first locals.

    It names each call, so that Python has nothing to do between two of them.
    """
    # By identity, as arrays that are equal are different places. `calls` keeps all of them alive.
    constants: dict[int, tuple[str, Any]] = {}

    def name(x: Any) -> str:
        if isinstance(x, Local):
            return f"x{x.number}"
        return constants.setdefault(id(x), (f"c{len(constants)}", x))[0]

    lines = []
    for function, given, out, result in calls:
        stored = "" if result is None else f"{name(result)} = "
        names = [*map(name, given), *([] if out is None else [f"out={name(out)}"])]
        lines.append(f"{stored}{name(function)}({', '.join(names)})")
    run: Callable[..., None] = _made([f"x{i}" for i in range(count)], lines, constants.values())
    return run


def lister(batch: Tree) -> Callable[[Tree], list[Any] | None]:
    """Return a function that lists the arrays of a batch like this one; of any other it returns None.

    Two are alike if they have one structure, and arrays of the same types, shapes and dtypes.
    """
    lines: list[str] = []
    constants: list[tuple[str, Any]] = []
    arrays: list[str] = []

    def constant(x: Any) -> str:
        constants.append((f"c{len(constants)}", x))
        return constants[-1][0]

    def unless(condition: str) -> None:
        lines.append(f"if not ({condition}): return None")

    def visit(name: str, tree: Tree) -> None:
        if tree is None:
            unless(f"{name} is None")
            return
        unless(f"type({name}) is {constant(type(tree))}")
        if isinstance(tree, dict):
            unless(f"[*{name}] == {constant([*tree])}")
            take_apart(name, f"{name}.values()", tree.values())
        elif isinstance(tree, (tuple, list)):
            unless(f"len({name}) == {len(tree)}")
            take_apart(name, name, tree)
        else:
            shape, dtype = constant(tree.shape), constant(tree.dtype)
            unless(f"{name}.shape == {shape} and {name}.dtype == {dtype}")
            arrays.append(name)

    def take_apart(name: str, values: str, branches: Iterable[Tree]) -> None:
        names = {f"{name}_{k}": branch for k, branch in enumerate(branches)}
        lines.append(f"[{', '.join(names)}] = {values}")
        for each, branch in names.items():
            visit(each, branch)

    visit("batch", batch)
    lines.append(f"return [{', '.join(arrays)}]")
    listed: Callable[[Tree], list[Any] | None] = _made(["batch"], lines, constants)
    return listed


def _made(
    arguments: Iterable[str], lines: Iterable[str], constants: Iterable[tuple[str, Any]]
) -> Callable[..., Any]:
    """Make a function of its lines, and of the constants in it, each with its name."""
    given = dict(constants)
    # Names alone are in the source, never numbers or addresses, so functions of one structure share it.
    body = "\n  ".join([f" def made({', '.join(arguments)}):", *lines, "return None"])
    make = _maker(f"def make({', '.join(given)}):\n{body}\n return made\n")
    return make(*given.values())


@functools.lru_cache(maxsize=64)
def _maker(source: str) -> Callable[..., Callable[..., None]]:
    """Compile the source, which is the same for calls of the same structure."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    make: Callable[..., Callable[..., None]] = scope["make"]
    return make
