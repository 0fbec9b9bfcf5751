"""A whole step as a recording: gradient and update, on arrays that stand for those to come."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from anyprop import _tree
from anyprop._typing import Number, Tree
from anyprop.backend import namespace
from anyprop.compiled.recording import Recording, Traced, Value, value_of
from anyprop.compiled.same import same, shown
from anyprop.compiled.twice import twice
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step


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
    """Record a step, twice, and return the recording if both are the same.

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
        The step does what cannot be recorded, or not the same each time.
    """

    def record(time: int) -> RecordedStep:
        before = in_recording(state, time)
        return _recorded(step, params, before, batch, noise, lr, scalars)

    return twice(record, step, difference)


def _recorded(
    step: Step,
    params: Parameters,
    state: OptimizerState,
    batch: list[Traced | None],
    noise: Tree,
    lr: Number,
    scalars: dict[str, Number],
) -> RecordedStep:
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


def in_recording(state: OptimizerState, time: int) -> OptimizerState:
    """Return the state as recording `time` sees it: its counts differ, and nothing may depend on them.

    What depends on the step comes as the learning rate and the scalars of the rule. An optimizer that
    looks at the count itself is noticed, as the two recordings then differ.
    """
    return state._replace(step=time, lr_scale=1.0 / (1 + time))


def difference(first: RecordedStep, second: RecordedStep) -> str | None:
    """Return in words how two recordings of a step differ; None if they do not."""
    calls, others = first.recording.calls, second.recording.calls
    pairs: dict[Value, Value] = {}

    def paired(a: Any, b: Any) -> bool | None:
        a, b = value_of(a), value_of(b)
        if not (isinstance(a, Value) and isinstance(b, Value)):
            return None
        if a is b or a in pairs:
            return pairs.get(a, a) is b
        if not same((a.shape, a.dtype), (b.shape, b.dtype)) or a.given != b.given:
            return False
        if a.given:
            return same(a.data, b.data)
        # Only a view has not been computed by an earlier call.
        return a.parent is not None and same((a.parent, a.view), (b.parent, b.view), paired)

    for k, (call, other) in enumerate(zip(calls, others, strict=False)):
        where, name = f"call {k + 1} of {len(calls)}", _name(call.function)
        if not same(call.function, other.function, paired):
            return f"{where} is {name} the first time and {_name(other.function)} the second"
        results = (call.output, other.output)
        for a, b in zip_longest(call.arguments, other.arguments):
            if not same(a, b, paired):
                return f"{where}, {name}, has {_words(a)} the first time and {_words(b)} the second"
        if not same((results[0].shape, results[0].dtype), (results[1].shape, results[1].dtype)):
            was, became = map(_words, results)
            return f"{where}, {name}, gives {was} the first time and {became} the second"
        pairs[call.output] = other.output
    if len(calls) != len(others):
        return f"it makes {len(calls)} calls the first time and {len(others)} the second"
    if not same(first.outputs, second.outputs, paired):
        return "its results are those of other calls the second time"
    return None


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    name = str(getattr(function, "__name__", type(function).__name__))
    return f"{of}.{name}" if (of := getattr(owner, "__name__", "")) else name


def _words(value: Any) -> str:
    """Return words for what a call is given."""
    if not isinstance(value, Value):
        return shown(value)
    if value.is_number:
        return "a number"
    if value.given:
        return f"the constant {shown(value.data)}"
    return f"an array of shape {tuple(value.shape)} and dtype {value.dtype}"


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
