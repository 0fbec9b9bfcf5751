"""A step on NumPy: gradient and update in one plan, on the caller's parameters and state.

The first call with arrays of new shapes records the step, binds its calls to arrays of their own, and
unrolls them into one Python function; that and every later call run it. Parameters and state are
donated: they are updated where they are, and come back as the same objects. A step on small arrays is
planned once more when it has been done many times, then with loops.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from anyprop._typing import Array, Number, Tree
from anyprop.backend import namespace
from anyprop.compiled.numpy_plan import lister, make_plan
from anyprop.compiled.program import (
    Places,
    Program,
    fill,
    mapped,
    rebuilt,
    record,
    taken_apart,
    values_of,
)
from anyprop.compiled.trace import Recording, Traced, TracedNumber
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.base import Numbers
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.kept import Kept
from anyprop.repeatable.ours import is_constant
from anyprop.step import Step

# What is planned for a run serves equal ones: of functions that are slow to plan beside their work.
kept = Kept(8, 16 * 2**20)
# Steps on small arrays before their loops are compiled, for which numba takes a second or more.
PATIENCE = 20_000


class PlannedStep:
    """A step, of one process or of several, planned again for each set of shapes and dtypes."""

    def __init__(self, step: Step | DataParallelStep) -> None:
        self._step = step
        self._of_thread = _OfThread()

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Tree
    ) -> tuple[Parameters, OptimizerState, Array]:
        numbers = self._step.optimizer.numbers(state)
        latest = self._of_thread.latest
        # Nearly every step continues the one before, and to see that takes less than to look it up.
        if latest is not None and params is latest.places.params and latest.steps_left:
            leaves = latest.arrays_of(batch)
            if leaves is not None and type(numbers[0]) is latest.kind_of_lr:
                return latest.run(params, state, numbers, leaves)
        return self._with_plan(params, state, numbers, batch)

    def _with_plan(
        self, params: Parameters, state: OptimizerState, numbers: Numbers, batch: Tree
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Look up the plan for the arguments, or make one, or one with loops; run it."""
        own, (leaves, kinds) = self._of_thread, taken_apart(batch)
        # An lr that lies in an array is read in each run, and not the same program as a Python float.
        kind_of_lr, whole = type(numbers[0]), params.running is not None
        key = (params.layout, params.flat.dtype, whole, kind_of_lr, *kinds)
        planned = own.plans.get(key)
        # Once for each set of types is enough: arrays of another library have other types.
        if planned is None:
            namespace(params.flat, *leaves)
        if planned is None or not planned.steps_left:
            recorded = recorded_step(self._step, params, state, numbers, batch)
            planned = _PlannedStep(*recorded, batch, kind_of_lr, small_too=planned is not None)
            own.plans[key] = planned
        own.latest = planned
        return planned.run(params, state, numbers, leaves)


class _OfThread(threading.local):
    """The plans of a thread, as a plan has one set of buffers."""

    latest: _PlannedStep | None = None

    def __init__(self) -> None:
        self.plans: dict[Any, _PlannedStep] = {}


def recorded_step(
    step: Step | DataParallelStep,
    params: Parameters,
    state: OptimizerState,
    numbers: Numbers,
    batch: Tree,
    compute: Callable[..., Tree] | None = None,
) -> tuple[Places, Program]:
    """Record a step on arrays of one set of shapes.

    Parameters
    ----------
    step : Step or DataParallelStep
        What to record.
    params, state
        Donated.
    numbers : (lr, scalars)
        Those of one step.
    batch : tree
        A batch, of which only shapes and dtypes count.
    compute : callable, optional
        What to record, if not the step's `compute` itself.

    Returns
    -------
    places : Places
        The arrays that it updates.
    program : Program
        Its results are the loss, and what follows on parameters and state; its arguments are the numbers
        and the batch.
    """
    places = Places.of(params, state)
    held = mapped(Recording.given, tuple(places))
    given = mapped(_given, (numbers, batch))
    calls, (params, slots, value) = record(compute or step.compute, (*held, *given), step)
    # The loss is no parameter: it stays where it is computed, and is read before the next run.
    targets = [None, *values_of(held[:2])]
    return places, Program(calls, values_of((value, params, slots)), targets, values_of(given))


class _PlannedStep:
    """The plan of one set of shapes, and the arrays that it updates.

    Attributes
    ----------
    arrays_of : callable
        Lists the arrays of a batch of the same shapes and dtypes; returns None of any other.
    """

    def __init__(
        self,
        places: Places,
        program: Program,
        batch: Tree,
        kind_of_lr: type,
        *,
        small_too: bool,
    ) -> None:
        plan = make_plan(program, small_too=small_too)
        self.places, self.kind_of_lr, self.arrays_of = places, kind_of_lr, lister(batch)
        self._run, self._value = plan.run, plan.outputs[0]
        self.steps_left = math.inf if plan.complete else PATIENCE

    def run(
        self, params: Parameters, state: OptimizerState, numbers: Numbers, leaves: list[Array]
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Run a step, on what the arguments hold."""
        self.steps_left -= 1
        places, (lr, scalars) = self.places, numbers
        places.fill(params, state)
        self._run(lr, *scalars.values(), *leaves)
        # [()] makes a scalar of the value, which the next run does not write over.
        return places.params, places.after(state), self._value[()]


class PlannedGradient:
    """A function ``(params, batch) -> tree of arrays``, planned for each set of shapes and dtypes."""

    def __init__(self, function: Callable[[Parameters, Tree], Tree]) -> None:
        self._function, self._keeps = function, is_constant(function)
        self._of_thread = threading.local()

    def __call__(self, params: Parameters, batch: Tree) -> Tree:
        """Compute the function; the arrays of the result are the caller's."""
        plans: dict[Any, _PlannedGradient] = self._of_thread.__dict__
        leaves, kinds = taken_apart(batch)
        key = (params.layout, params.flat.dtype, *kinds)
        planned = plans.get(key)
        if planned is None:
            namespace(params.flat, *leaves)
            of_all = (self._function, *key) if self._keeps else None
            planned = kept.get(of_all)
            if planned is None:
                planned = _PlannedGradient(self._function, params, batch)
                if of_all is not None:
                    kept.put(of_all, planned)
            plans[key] = planned
        return planned.run(params, leaves)


class _PlannedGradient:
    """The plan of one set of shapes, on parameters of its own."""

    def __init__(
        self, function: Callable[[Parameters, Tree], Tree], params: Parameters, batch: Tree
    ) -> None:
        self._params = params.copy()
        held, given = mapped(Recording.given, (self._params, batch))
        calls, self._result = record(function, (held, given), function)
        program = Program(calls, values_of(self._result), arguments=values_of(given))
        self._plan = make_plan(program)
        self.nbytes = self._plan.nbytes + int(self._params.flat.nbytes)

    def run(self, params: Parameters, leaves: list[Array]) -> Tree:
        """Compute the function, of what the arguments hold."""
        fill(self._params, params)
        self._plan.run(*leaves)
        return rebuilt(self._result, (output.copy() for output in self._plan.outputs))


def _given(number: Number) -> Traced | TracedNumber:
    return Recording.given(number) if hasattr(number, "dtype") else Recording.number(number)
