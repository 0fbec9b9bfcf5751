"""A whole step as a recording: gradient and update, on arrays that stand for those to come."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from anyprop import _tree
from anyprop._typing import Number, Tree
from anyprop.backend import namespace
from anyprop.compiled.recording import Recording, Traced
from anyprop.optimizers.base import Optimizer, OptimizerState
from anyprop.parameters import Parameters
from anyprop.training.step import Step


class RecordedStep(NamedTuple):
    """What a step does.

    Parameters
    ----------
    recording : Recording
        Its calls.
    outputs : list of Traced
        The loss, the updated parameters, the slots in their order, and the new running statistics if
        there are any.
    targets : list of Traced or None
        For each output the array in whose memory it shall end up; None for the loss.
    gradient : Traced
        The gradient that the rule is given.
    """

    recording: Recording
    outputs: list[Traced]
    targets: list[Traced | None]
    gradient: Traced


def record_step(
    step: Step,
    params: Parameters,
    state: OptimizerState,
    batch: list[Traced | None],
    noise: Tree,
    lr: Number,
    scalars: dict[str, Number],
) -> RecordedStep:
    """Record a step.

    Parameters
    ----------
    step : Step
        What to record.
    params : Parameters
        Of traced vectors.
    state : OptimizerState
        Of traced vectors.
    batch : list of Traced or None
        x, t, sample_weight, and the leaves of the noise.
    noise : tree
        The structure of the noise.
    lr : Traced or TracedNumber
        The learning rate.
    scalars : dict of str to Traced or TracedNumber
        The scalars of the rule.

    Returns
    -------
    RecordedStep

    Raises
    ------
    TraceError
        The step does what cannot be recorded.
    """
    x, t, sample_weight, *drawn = batch
    with np.errstate(all="ignore"), Recording() as recording:
        value, grads = step.gradient(
            params, x, t, noise=_tree.rebuild(noise, drawn), sample_weight=sample_weight
        )
        updated, after = step.opt.update_with(params, grads, state, lr, scalars)
    outputs = [value, updated.flat, *(after.slots[name].flat for name in state.slots)]
    targets = [None, params.flat, *(slot.flat for slot in state.slots.values())]
    if params.running is not None:
        outputs, targets = [*outputs, updated.running], [*targets, params.running]
    return RecordedStep(recording, outputs, targets, grads.flat)


def numbers_of_step(opt: Optimizer, state: OptimizerState, lr: Number, dtype: Any) -> list[Number]:
    """Give what depends on the step alone: the learning rate, and the scalars of the rule."""
    if hasattr(lr, "dtype"):
        lr = namespace(lr).astype(lr, dtype, copy=False)
    return [lr, *opt.scalars(state.step + 1, lr).values()]


class Places(NamedTuple):
    """The parameters and the state that a compiled step updates where they lie."""

    params: Parameters
    slots: dict[str, Any]
    mask: Any

    def fill(self, params: Parameters, state: OptimizerState) -> None:
        """Copy in what a caller gives, unless it lies there already."""
        if params is not self.params:
            _fill(self.params, params)
        if state.slots is not self.slots:
            for name, slot in self.slots.items():
                _fill(slot, state.slots[name])
        if state.decay_mask is not self.mask:
            _fill(self.mask, state.decay_mask)

    def after(self, state: OptimizerState) -> OptimizerState:
        """Give the state that follows from the one that was filled in."""
        return OptimizerState(state.step + 1, state.lr_scale, self.slots, self.mask)


def _fill(buffer: Any, params: Any) -> None:
    for ours, theirs in ((buffer.flat, params.flat), (buffer.running, params.running)):
        if ours is not theirs and ours is not None:
            ours[...] = theirs
