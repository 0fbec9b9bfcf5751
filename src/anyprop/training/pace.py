"""How a run takes its batches: one in a call, or many where the backend has a loop of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from anyprop.repeatable.stand_in import TraceError
from anyprop.training.inputs import ArrayInputs, Inputs
from anyprop.training.portions import SourceInputs
from anyprop.training.run import Run

MOST_AT_ONCE = 100
"""Steps in a call."""


class OneByOne:
    """Takes one batch in a call, by what `make_step` returned, perhaps compiled."""

    at_once = 1

    def __init__(self, step: Callable[..., Any], inputs: Inputs) -> None:
        self._step, self.inputs = step, inputs

    def take(self, run: Run, batches: Sequence[Any]) -> None:
        """Run a step with each batch."""
        for batch in batches:
            run.advance(self._step, self.inputs.of(batch, run.params, run.epoch, run.batch))


class ManyAtOnce:
    """Takes as many batches in a call as can be done in a moment, since Ctrl-C waits for its end.

    The loop, a `PlannedLoop`, `JittedLoop` or `GraphLoop`, takes `most` batches:
    ``(params, state, data, batches) -> (params, state, values)``, where the values are a list of floats,
    or an array of shape (K,). `instead` runs them if it cannot be compiled.
    """

    moment = 0.1
    """Seconds."""

    def __init__(
        self,
        loop: Callable[..., Any],
        most: int,
        inputs: ArrayInputs | SourceInputs,
        instead: OneByOne,
    ) -> None:
        self._loop, self._most, self.inputs, self._instead = loop, most, inputs, instead
        self._fails = False
        self.at_once = 1

    def take(self, run: Run, batches: Sequence[Any]) -> None:
        """Run a step with each batch."""
        if self._fails:
            self._instead.take(run, batches)
            return
        data, rows = self.inputs.many(batches)
        began = time.perf_counter()
        try:
            run.advance_by(self._loop, data, rows)
        except TraceError:
            self._fails, self.at_once = True, 1
            self._instead.take(run, batches)
            return
        seconds = time.perf_counter() - began
        if seconds > self.moment:
            self.at_once = max(1, self.at_once // 2)
        elif len(batches) == self.at_once and seconds < self.moment / 2:
            self.at_once = min(self._most, 2 * self.at_once)
