"""A step on NumPy: gradient and update in one plan, on the caller's parameters and state.

The first call with arrays of new shapes records the step, binds its calls to arrays of their own, and
unrolls them into one Python function; that and every later call run it. Parameters and state are
donated: they are updated where they are, and come back as the same objects. A step on small arrays is
planned once more when it has been done many times, then with loops.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Array, Number, Tree
from anyprop.backend import namespace
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
from anyprop.compiled.program import (
    Bound,
    Local,
    Places,
    fill,
    leaves_of,
    listed,
    mapped,
    rebuilt,
    record,
    taken_apart,
    unrolled,
)
from anyprop.compiled.trace import OUT, Call, Recording, Traced, TracedNumber, Value
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.base import Numbers
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step

# By then steps on small arrays have taken about as long as numba takes to compile their loops.
PATIENCE = 20_000


class PlannedStep:
    """A step, of one process or of several, planned again for each set of shapes and dtypes."""

    def __init__(self, step: Step | DataParallelStep) -> None:
        self._step = step
        self._of_thread = threading.local()

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Tree
    ) -> tuple[Parameters, OptimizerState, Array]:
        plans: dict[Any, _PlannedStep] = self._of_thread.__dict__
        numbers = self._step.optimizer.numbers(state)
        leaves, kinds = taken_apart(batch)
        # An lr that lies in an array is read in each run, and not the same program as a Python float.
        key = (params.layout, params.flat.dtype, type(numbers[0]), *kinds)
        planned = plans.get(key)
        # Once for each set of types is enough: arrays of another library have other types.
        if planned is None:
            namespace(params.flat, *leaves)
        if planned is None or not planned.steps_left:
            planned = plans[key] = _PlannedStep(
                *(self._step, params, state, numbers, batch), small_too=planned is not None
            )
        return planned.run(params, state, numbers, leaves)


class _PlannedStep:
    """The plan of one set of shapes, and the arrays that it updates."""

    def __init__(
        self,
        step: Step | DataParallelStep,
        params: Parameters,
        state: OptimizerState,
        numbers: Numbers,
        batch: Tree,
        *,
        small_too: bool,
    ) -> None:
        owned = {name: _owned(slot) for name, slot in state.slots.items()}
        # The mask is not donated, and the caller may change it.
        mask = None if state.decay_mask is None else state.decay_mask.copy()
        self._places = Places(_owned(params), owned, mask)

        held = mapped(Recording.given, tuple(self._places))
        given = mapped(_given, (numbers, batch))
        recording, (params, slots, value) = record(step.compute, (*held, *given), step)
        outputs = [value, *leaves_of((params, slots))]
        # The loss is no parameter: it stays where it is computed, and is read before the next run.
        targets = [None, *leaves_of(held[:2])]
        by_number = [*leaves_of(given[1]), *leaves_of(given[0])]
        plan = make_plan(recording, outputs, targets, by_number, small_too=small_too)
        self._run, self._value = plan.run, plan.outputs[0]
        self.steps_left = math.inf if plan.complete else PATIENCE

    def run(
        self, params: Parameters, state: OptimizerState, numbers: Numbers, leaves: list[Array]
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Run a step, on what the arguments hold."""
        self.steps_left -= 1
        self._places.fill(params, state)
        self._run(*leaves, *listed(numbers))
        # [()] makes a scalar of the value, which the next run does not write over.
        return self._places.params, self._places.after(state), self._value[()]


class PlannedGradient:
    """A function ``(params, batch) -> tree of arrays``, planned for each set of shapes and dtypes."""

    def __init__(self, function: Callable[[Parameters, Tree], Tree]) -> None:
        self._function = function
        self._of_thread = threading.local()

    def __call__(self, params: Parameters, batch: Tree) -> Tree:
        """Compute the function; the arrays of the result are valid until the next call."""
        plans: dict[Any, Any] = self._of_thread.__dict__
        leaves, kinds = taken_apart(batch)
        key = (params.layout, params.flat.dtype, *kinds)
        if key not in plans:
            namespace(params.flat, *leaves)
            kept = params.copy()
            held, given = mapped(Recording.given, (kept, batch))
            recording, result = record(self._function, (held, given), self._function)
            plan = make_plan(recording, leaves_of(result), (), leaves_of(given))
            plans[key] = kept, plan.run, rebuilt(result, iter(plan.outputs))
        kept, run, result = plans[key]
        fill(kept, params)
        run(*leaves)
        return result


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what cannot be written to."""
    usable = params.flat.flags.writeable and params.flat.flags.c_contiguous
    return params if usable else params.copy()


def _given(number: Number) -> Traced | TracedNumber:
    return Recording.given(number) if hasattr(number, "dtype") else Recording.number(number)


class Plan(NamedTuple):
    """Repeats a recording."""

    run: Callable[..., None]
    """Repeats it, given the arguments of this run, on what the other arrays hold now."""
    calls: list[Bound]
    """What `run` does."""
    outputs: list[Any]
    """Results that the caller reads; the same arrays after every run."""
    nbytes: int
    """Memory of its buffers; arrays that were given do not count."""
    complete: bool
    """Whether everything that can be fused has been; False if the arrays are too small for that."""


def make_plan(
    recording: Recording,
    outputs: Sequence[Traced],
    targets: Sequence[Traced | None] = (),
    arguments: Sequence[Traced | TracedNumber] = (),
    *,
    small_too: bool = False,
) -> Plan:
    """Bind the calls of a recording to arrays, in loops even if all are small with `small_too`.

    For each output, from the first, `targets` says in which given array it should end up, if in any.
    `arguments` is what `run` takes; every other given array is read where it was in the recording.
    """
    results = [output.value for output in outputs]
    wanted = [None if t is None else t.value for t in targets]
    given = [argument.value for argument in arguments]
    # A broken numba is detected when a loop is compiled, in the middle of the plan, which is then
    # repeated.
    try:
        return _Calls(given).plan(recording.calls, results, wanted, fuse=True, small_too=small_too)
    except NoKernelError:
        return _Calls(given).plan(recording.calls, results, wanted, fuse=False)


class _Calls(Binding):
    """Calls on arrays of NumPy, each one bound to its own."""

    def __init__(self, arguments: list[Value]) -> None:
        super().__init__(NUMBA, {})
        # Places are found once, in the recorded run, so each Local has an example from it.
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
        """Find a place for every value, and bind the calls to the places."""
        for call in calls:
            if call.output.is_number:
                self._places[call.output] = self._new_local(call.output.data)
        # Before calls are grouped, as a join between them would split a loop.
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
        # As a keyword, where a function has it last: some refuse it as a positional argument.
        last = arguments.pop() if unit.arguments[-1] is OUT else None
        self._bound.append(Bound(unit.function, tuple(arguments), last))

    def copy(self, value: Value, place: Any) -> None:
        """Append a copy."""
        self._bound.append(Bound(np.copyto, (place, self.place(value))))

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
