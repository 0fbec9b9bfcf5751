"""The planned step on NumPy: gradient and update in one plan, on the caller's parameters and state.

The first call with arrays of new shapes records the step; that and every later call run its plan.
Parameters and state are donated: they are updated where they lie, and come back as the same objects.
A step on small arrays is planned once more when it has been done many times, then with loops.
"""

from __future__ import annotations

import math
import threading
from typing import Any

from anyprop import _tree
from anyprop._typing import Array, Number, Tree
from anyprop.backend import check_array, namespace
from anyprop.compiled.plan import make_plan
from anyprop.compiled.recorded_step import Places, numbers_of_step, record_step
from anyprop.compiled.recording import Recording, Traced, TracedNumber
from anyprop.network import check_batch
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, map_vectors
from anyprop.step import Step

# By then steps on small arrays have taken about as long as numba takes to compile their loops.
PATIENCE = 20_000


class PlannedStep:
    """A step on NumPy arrays, planned anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to plan.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._of_thread = threading.local()

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Parameters, OptimizerState, Array]:
        plans: dict[Any, _Planned] = self._of_thread.__dict__
        batch = [x, t, sample_weight, *_tree.leaves(noise)]
        lr = self._step.opt.learning_rate(state)
        try:
            key = (params.layout, params.flat.dtype, type(lr), *map(_kind, batch))
        except AttributeError:
            named = [("x", x), ("t", t), ("sample_weight", sample_weight)]
            named += [("noise", leaf) for leaf in _tree.leaves(noise)]
            for name, array in named:
                if array is not None:
                    check_array(name, array)
            raise
        planned = plans.get(key)
        if planned is None:
            for leaf in batch:
                if leaf is not None:
                    namespace(params.flat, leaf)
            check_batch(params, x, t)
        if planned is None or not planned.steps_left:
            planned = plans[key] = _Planned(
                *(self._step, params, state, lr, batch, noise), small_too=planned is not None
            )
        return planned.run(params, state, lr, batch)


def _kind(leaf: Any) -> Any:
    return None if leaf is None else (type(leaf), leaf.shape, leaf.dtype)


class _Planned:
    """The plan of one set of shapes, and the arrays that it updates."""

    def __init__(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        lr: Number,
        batch: list[Any],
        noise: Tree,
        *,
        small_too: bool,
    ) -> None:
        self._opt = step.opt
        owned = {name: _owned(slot) for name, slot in state.slots.items()}
        kept = None if state.decay_mask is None else state.decay_mask.copy()
        self._places = Places(_owned(params), owned, kept)

        now = numbers_of_step(step.opt, state, lr, params.flat.dtype)
        numbers = list(map(_given, now))
        leaves = [None if leaf is None else Recording.given(leaf) for leaf in batch]
        slots = {name: _traced(slot) for name, slot in self._places.slots.items()}
        mask = None if self._places.mask is None else _traced(self._places.mask)
        before = OptimizerState(0, 1.0, slots, mask)
        given_lr, *scalars = numbers
        named = dict(zip(self._opt.scalars(state.step + 1, lr), scalars, strict=True))
        recorded = record_step(
            step, _traced(self._places.params), before, leaves, noise, given_lr, named
        )
        arguments = [*(leaf for leaf in leaves if leaf is not None), *numbers]
        plan = make_plan(*recorded[:3], arguments, small_too=small_too)
        self._run, self._value = plan.run, plan.outputs[0]
        self.steps_left = math.inf if plan.complete else PATIENCE

    def run(
        self, params: Parameters, state: OptimizerState, lr: Number, batch: list[Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Do a step, on what the arguments hold."""
        self.steps_left -= 1
        self._places.fill(params, state)
        leaves = [leaf for leaf in batch if leaf is not None]
        self._run(*leaves, *numbers_of_step(self._opt, state, lr, params.flat.dtype))
        return self._places.params, self._places.after(state), self._value[()]


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what cannot be written to."""
    usable = params.flat.flags.writeable and params.flat.flags.c_contiguous
    return params if usable else params.copy()


def _traced(params: Parameters) -> Parameters:
    return map_vectors(params, Recording.given)


def _given(number: Number) -> Traced | TracedNumber:
    return Recording.given(number) if hasattr(number, "dtype") else Recording.number(number)
