"""A step on NumPy: gradient and update in one plan, on the caller's parameters and state.

The first call with arrays of new shapes records the step; that and every later call run its plan.
Parameters and state are donated: they are updated where they are, and come back as the same objects.
A step on small arrays is planned once more when it has been done many times, then with loops.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

from anyprop._typing import Array, Number, Tree
from anyprop.backend import check_array, namespace
from anyprop.compiled.plan import make_plan
from anyprop.compiled.program import (
    Places,
    fill,
    leaves_of,
    listed,
    mapped,
    rebuilt,
    record,
    structure_of,
)
from anyprop.compiled.trace import Recording, Traced, TracedNumber
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.base import Numbers
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step

# By then steps on small arrays have taken about as long as numba takes to compile their loops.
PATIENCE = 20_000


class PlannedStep:
    """A step on NumPy arrays, planned anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step or DataParallelStep
        What to plan.
    """

    def __init__(self, step: Step | DataParallelStep) -> None:
        self._step = step
        self._of_thread = threading.local()

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Tree
    ) -> tuple[Parameters, OptimizerState, Array]:
        plans: dict[Any, _PlannedStep] = self._of_thread.__dict__
        numbers = self._step.optimizer.numbers(state)
        leaves = leaves_of(batch)
        key = (params.layout, params.flat.dtype, type(numbers[0]), *_kinds(batch, leaves))
        planned = plans.get(key)
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
        mask = None if state.decay_mask is None else state.decay_mask.copy()
        self._places = Places(_owned(params), owned, mask)

        held = mapped(Recording.given, tuple(self._places))
        given = mapped(_given, (numbers, batch))
        recording, (params, slots, value) = record(step.compute, (*held, *given), step)
        outputs = [value, *leaves_of((params, slots))]
        targets = [None, *leaves_of(held[:2])]
        by_number = [*leaves_of(given[1]), *leaves_of(given[0])]
        plan = make_plan(recording, outputs, targets, by_number, small_too=small_too)
        self._run, self._value = plan.run, plan.outputs[0]
        self.steps_left = math.inf if plan.complete else PATIENCE

    def run(
        self, params: Parameters, state: OptimizerState, numbers: Numbers, leaves: list[Array]
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Do a step, on what the arguments hold."""
        self.steps_left -= 1
        self._places.fill(params, state)
        self._run(*leaves, *listed(numbers))
        return self._places.params, self._places.after(state), self._value[()]


class PlannedGradient:
    """A function of parameters and a batch on NumPy arrays, planned for each set of shapes and dtypes.

    Parameters
    ----------
    function : callable
        ``(params, batch) -> tree of arrays``.
    """

    def __init__(self, function: Callable[[Parameters, Tree], Tree]) -> None:
        self._function = function
        self._of_thread = threading.local()

    def __call__(self, params: Parameters, batch: Tree) -> Tree:
        """Compute the function; the arrays of the result hold until the next call."""
        plans: dict[Any, Any] = self._of_thread.__dict__
        leaves = leaves_of(batch)
        key = (params.layout, params.flat.dtype, *_kinds(batch, leaves))
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


def _kinds(batch: Tree, leaves: list[Any]) -> list[Any]:
    """Return what a plan depends on of a batch: its structure, and of each array the kind."""
    try:
        return [structure_of(batch), *[(type(leaf), leaf.shape, leaf.dtype) for leaf in leaves]]
    except AttributeError:
        _check_arrays("batch", batch)
        raise


def _check_arrays(name: str, tree: Tree) -> None:
    """Raise TypeError for what is no array, with the name that it has in its dict."""
    if isinstance(tree, dict):
        for key, branch in tree.items():
            _check_arrays(key, branch)
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            _check_arrays(name, branch)
    elif tree is not None:
        check_array(name, tree)


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what cannot be written to."""
    usable = params.flat.flags.writeable and params.flat.flags.c_contiguous
    return params if usable else params.copy()


def _given(number: Number) -> Traced | TracedNumber:
    return Recording.given(number) if hasattr(number, "dtype") else Recording.number(number)
