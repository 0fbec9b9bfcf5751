"""The planned step on NumPy: buffers of a recording, and the same buffers for parameters and state.

The first call with arrays of new shapes records the step's gradient and its update; that and every later
call run the plans. Parameters and state are donated: they are updated where they lie, and come back as
the same objects.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._typing import Array
from anyprop.backend import namespace
from anyprop.compiled.plan import Plan, make_plan
from anyprop.compiled.recording import Recording
from anyprop.network import check_batch
from anyprop.optimizers.base import OptimizerState
from anyprop.parameters import Parameters
from anyprop.training.step import Step


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
        batch = {"x": x, "t": t, "noise": noise, "sample_weight": sample_weight}
        plans: dict[Any, _Plans] = self._of_thread.__dict__
        leaves = _tree.leaves(batch)
        key = (params.layout, params.flat.dtype, *map(_kind, leaves))
        if key not in plans:
            check_batch(params, x, t)
            plans[key] = _Plans(self._step, params, state, batch)
        done: tuple[Parameters, OptimizerState, Array] = plans[key].run(params, state, leaves)
        return done


def _kind(leaf: Any) -> Any:
    if leaf is None:
        return None
    namespace(leaf)
    return leaf.shape, leaf.dtype


class _Plans:
    """The two plans of one set of shapes, and the buffers that they share."""

    def __init__(
        self, step: Step, params: Parameters, state: OptimizerState, batch: dict[str, Any]
    ) -> None:
        self._opt = step.opt
        self._params = _owned(params)
        self._slots = {name: _owned(slot) for name, slot in state.slots.items()}
        self._batch = [None if a is None else np.array(a) for a in _tree.leaves(batch)]

        with np.errstate(all="ignore"), Recording() as recording:
            given = [None if a is None else Recording.given(a) for a in self._batch]
            traced = _traced(self._params)
            value, grads = step.gradient(traced, **_tree.rebuild(batch, given))
        outputs, targets = [value, grads.flat], [None, None]
        if grads.running is not None:
            outputs, targets = [*outputs, grads.running], [*targets, traced.running]
        self._gradient = make_plan(recording, outputs, targets)
        self._value, flat, *_ = self._gradient.outputs
        flat[...] = grads.flat.value.data
        self._update = self._planned_update(Parameters(params.layout, flat), state)

    def _planned_update(self, grads: Parameters, state: OptimizerState) -> Plan:
        dtype = grads.flat.dtype
        lr = self._opt.learning_rate(state)
        self._lr = np.asarray(lr, dtype=dtype)
        self._scalars = {
            name: np.asarray(scalar, dtype=dtype)
            for name, scalar in self._opt.scalars(state.step + 1, lr).items()
        }
        with np.errstate(all="ignore"), Recording() as recording:
            # The numbers of the step are read from buffers, which `run` fills.
            numbers = {name: Recording.given(a) for name, a in self._scalars.items()}
            traced = _traced(self._params)
            slots = {name: _traced(slot) for name, slot in self._slots.items()}
            mask = None if state.decay_mask is None else _traced(state.decay_mask)
            before = OptimizerState(0, 1.0, slots, mask)
            given_lr = Recording.given(self._lr)
            params, after = self._opt.update_with(traced, _traced(grads), before, given_lr, numbers)
        return make_plan(
            recording,
            [params.flat, *(after.slots[name].flat for name in slots)],
            [traced.flat, *(slot.flat for slot in slots.values())],
        )

    def run(
        self, params: Parameters, state: OptimizerState, batch: list[Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Do a step, on what the arguments hold."""
        _fill(self._params, params)
        for name, slot in self._slots.items():
            _fill(slot, state.slots[name])
        for buffer, array in zip(self._batch, batch, strict=True):
            if buffer is not None:
                np.copyto(buffer, array)
        lr = self._opt.learning_rate(state)
        self._lr[...] = lr
        for name, scalar in self._opt.scalars(state.step + 1, lr).items():
            self._scalars[name][...] = scalar
        self._gradient.run()
        self._update.run()
        state = state._replace(step=state.step + 1, slots=self._slots)
        return self._params, state, self._value[()]


def _owned(params: Parameters) -> Parameters:
    """Take over donated buffers, or copy what cannot be written to."""
    usable = params.flat.flags.writeable and params.flat.flags.c_contiguous
    return params if usable else params.copy()


def _traced(params: Parameters) -> Parameters:
    running = None if params.running is None else Recording.given(params.running)
    return Parameters(params.layout, Recording.given(params.flat), running)


def _fill(buffer: Parameters, params: Parameters) -> None:
    if buffer is params:
        return
    for ours, theirs in ((buffer.flat, params.flat), (buffer.running, params.running)):
        if ours is not theirs and ours is not None:
            ours[...] = theirs
