"""Many steps on NumPy in one call: by compiled code where that pays, and one by one until then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from anyprop._numerics import cast
from anyprop.compiled.many_steps import ManySteps
from anyprop.compiled.numba_dialect import NoKernelError, are_large
from anyprop.compiled.numpy_plan import Plan, make_plan
from anyprop.compiled.on_numpy import PATIENCE, recorded_step
from anyprop.compiled.operation import NoOperationError
from anyprop.compiled.program import Data, Loop, named, numbers_of
from anyprop.compiled.trace import Call, Value
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.kept import Kept
from anyprop.repeatable.ours import is_constant
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step

# Steps before the plan, where this process has its loops already and nothing is left to compile.
SOON = 50
# How many more steps alike, by `_structure`, this process does one by one, in one run or in several.
_left: dict[int, float] = {}
# What is compiled for a run serves equal ones, as of a search through other settings. It holds the
# buffers of its step.
kept = Kept(8, 64 * 2**20)


class PlannedLoop(Loop):
    """Many steps on NumPy's arrays in a call; one by one until it pays to compile them.

    Parameters
    ----------
    step : Step
        What to repeat.
    most : int >= 1
        Largest number of steps in a call.
    """

    def __init__(self, step: Step, most: int) -> None:
        self._step, self._most, self._keeps = step, most, is_constant(step)
        self._of: dict[Any, ManySteps | _Steps] = {}

    def __call__(
        self, params: Parameters, state: OptimizerState, data: Data, batches: Sequence[Any]
    ) -> tuple[Parameters, OptimizerState, list[float]]:
        size, numbers = len(batches[0]), numbers_of(self._step.optimizer, state, len(batches))
        arrays = {name: array for name, array in data.items() if array is not None}
        if not all(array[:1].flags.c_contiguous for array in arrays.values()):
            raise TraceError("the numbers of a row of its data lie apart")
        if not all(array.dtype.isnative for array in arrays.values()):
            raise TraceError(
                "its data are in another byte order, which compiled code does not read"
            )
        kinds = [(name, array.shape[1:], array.dtype) for name, array in arrays.items()]
        key = (size, params.layout, params.flat.dtype, *kinds)
        steps = self._of.get(key)
        if steps is None:
            slots = [(name, slot.flat.dtype) for name, slot in state.slots.items()]
            of_all = self._step, self._most, *key, *slots, state.decay_mask is None
            key_of_all = of_all if self._keeps else None
            steps = self._of[key] = kept.get(key_of_all) or _Steps(
                *(self._step, self._most, params, state, numbers[0], arrays, size, key_of_all)
            )
        return steps.run(params, state, [*arrays.values()], batches, numbers)


class _Steps:
    """The steps with batches of one size."""

    def __init__(
        self,
        step: Step,
        most: int,
        params: Parameters,
        state: OptimizerState,
        numbers: list[Any],
        arrays: dict[str, Any],
        size: int,
        key: Any,
    ) -> None:
        if any(hasattr(number, "dtype") for number in numbers):
            raise TraceError("its numbers lie in arrays")
        self._most, self._key = most, key
        # Every batch is put into the same arrays.
        batch = {
            name: np.zeros((size, *array.shape[1:]), array.dtype) for name, array in arrays.items()
        }
        self._batch = [*batch.values()]

        def compute(params: Any, slots: Any, mask: Any, numbers: Any, batch: Any) -> Any:
            x = cast(params.xp, batch["x"], params.flat.dtype)
            return step.compute(params, slots, mask, numbers, batch | {"x": x})

        given = named(numbers, step.optimizer), step.batch(**batch)
        self._places, program = recorded_step(step, params, state, *given, compute)
        # The batch is read where it is put.
        self._program = program._replace(arguments=program.arguments[: len(numbers)])
        self._one: Plan | None = None
        self._many: ManySteps | None = None
        self._structure = _structure(program.calls)
        left = min(PATIENCE, _left.get(self._structure, PATIENCE))
        self._steps_left = 0.0 if are_large(program.calls) else max(left, min(PATIENCE, SOON))

    def run(
        self,
        params: Parameters,
        state: OptimizerState,
        arrays: Sequence[Any],
        batches: Sequence[Any],
        numbers: Sequence[list[float]],
    ) -> tuple[Parameters, OptimizerState, list[float]]:
        """Run a step with each batch."""
        if self._steps_left <= 0:
            self._compile()
        if self._many is not None:
            return self._many.run(params, state, arrays, batches, numbers)
        self._places.fill(params, state)
        values = self._one_by_one(arrays, batches, numbers)
        after = self._places.after(state)._replace(step=state.step + len(batches))
        return self._places.params, after, values

    def _compile(self) -> None:
        """Compile many steps at once, or, where that is impossible, one in loops."""
        self._steps_left = math.inf
        try:
            self._many = ManySteps(self._places, self._program, self._batch, self._most)
        except (NoKernelError, NoOperationError):
            self._one = make_plan(self._program, small_too=True)
            _left[self._structure] = PATIENCE
        else:
            _left[self._structure] = 0.0
            if self._key is not None:
                kept.put(self._key, self._many)

    def _one_by_one(
        self, arrays: Sequence[Any], batches: Sequence[Any], numbers: Sequence[Sequence[float]]
    ) -> list[float]:
        self._one = self._one or make_plan(self._program)
        self._steps_left -= len(batches)
        _left[self._structure] = _left.get(self._structure, PATIENCE) - len(batches)
        values = []
        for rows, of_step in zip(batches, numbers, strict=True):
            for array, batch in zip(arrays, self._batch, strict=True):
                # The rows are within the array, and NumPy would take a copy in any other mode.
                np.take(array, rows, axis=0, out=batch, mode="clip")
            self._one.run(*of_step)
            values.append(float(self._one.outputs[0]))
        return values


def _structure(calls: Sequence[Call]) -> int:
    """Return a number for calls whose loops are the same: of all but how large the arrays are."""
    sizes: dict[int, Any] = {}

    def size(n: int) -> Any:
        # Arrays of one shape may share a loop, and how a row is summed depends on how long it is.
        return sizes.setdefault(n, (len(sizes), n == 1, n < 8, n <= 32, n <= 128))

    def part(x: Any) -> Any:
        if isinstance(x, Value):
            return None if x.is_number else (x.dtype, *map(size, x.shape))
        # Other constants are arguments of a loop.
        return x if x in (0.0, 1.0, -1.0) else type(x)

    return hash(tuple((c.function, part(c.output), *map(part, c.arguments)) for c in calls))
