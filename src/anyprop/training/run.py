"""A training run as callbacks see it, and the error that ends one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from anyprop._typing import Array
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer, OptimizerState
from anyprop.parameters import Parameters
from anyprop.training._host import read, read_number
from anyprop.training.history import History


class TrainingDivergedError(ArithmeticError):
    """The loss or the parameters became NaN or infinite.

    Attributes
    ----------
    step : int
        The step in which that was found, 1 the first.
    params, state : Parameters, OptimizerState
        The last ones kept from which a step with a finite loss was computed; at most `report_every`
        steps older than the failure.
    history : History
        The history up to the last finite loss.
    """

    step: int
    params: Parameters
    state: OptimizerState
    history: History


class _Now(NamedTuple):
    """Where a run stands. It is replaced as a whole, so that Ctrl-C never finds half a step."""

    params: Parameters
    state: OptimizerState
    step: int
    value: Array | None
    before: tuple[Parameters, OptimizerState]


class Run:
    """What `fit` shows to its callbacks.

    Attributes
    ----------
    net, loss, optimizer
        As given to `fit`.
    params, state : Parameters, OptimizerState
        The present ones; a callback may replace them by others of the same layout.
    step : int
        Steps done.
    epoch : int
        Passes through the data completed.
    history : History
        What is known so far; complete whenever a callback is called.
    monitors : tuple of str
        The fields of `EpochRecord` that this run measures and a callback may watch.
    """

    def __init__(
        self,
        net: Layer,
        loss: Loss,
        optimizer: Optimizer,
        params: Parameters,
        state: OptimizerState,
        monitors: tuple[str, ...],
    ) -> None:
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.monitors = monitors
        self.history = History()
        self.epoch = 0
        self._now = _Now(params, state, 0, None, (params, state))
        self._kept = (params, state)
        self._unread: tuple[list[Array], int] = ([], 0)
        self._stopped = False

    @property
    def params(self) -> Parameters:
        """The present parameters."""
        return self._now.params

    @params.setter
    def params(self, params: Parameters) -> None:
        if params.layout != self._now.params.layout:
            raise ValueError(f"a run of {self._now.params} cannot go on with {params}.")
        self._now = self._now._replace(params=params)

    @property
    def state(self) -> OptimizerState:
        """The present state of the optimizer."""
        return self._now.state

    @state.setter
    def state(self, state: OptimizerState) -> None:
        self._now = self._now._replace(state=state)

    @property
    def step(self) -> int:
        """Steps done."""
        return self._now.step

    @property
    def lr(self) -> float:
        """Learning rate of the last update, or of the first before there was one."""
        return read_number(self.optimizer.learning_rate(self._now.before[1]))

    def stop(self) -> None:
        """End the run as soon as the callbacks that are due have been called."""
        self._stopped = True

    @property
    def stopped(self) -> bool:
        """Whether somebody called `stop`."""
        return self._stopped

    def advance(self, done: tuple[Parameters, OptimizerState, Array]) -> None:
        """Take over the result of a step."""
        now = self._now
        params, state, value = done
        self._now = _Now(params, state, now.step + 1, value, (now.params, now.state))
        self._unread[0].append(value)

    def read_losses(self) -> list[float]:
        """Read the losses of the steps since the last call into the history, in one transfer.

        Raises
        ------
        TrainingDivergedError
            One of them is NaN or infinite, or a parameter is.
        """
        values, first = self._unread
        if first + len(values) < self.step:  # Ctrl-C came between the two lines of `advance`
            assert self._now.value is not None
            values.append(self._now.value)
        values = values[len(self.history.losses) - first :]  # or between two of those below
        if not values:
            return []
        xp = self.params.xp
        with np.errstate(all="ignore"):
            *losses, largest = read([*values, xp.max(xp.abs(self.params.flat))])
        for value in losses:
            if not math.isfinite(value):
                raise self._diverged(f"the loss is {value}", len(self.history.losses) + 1)
            self.history.losses.append(value)
        if not math.isfinite(largest):
            raise self._diverged("the update made parameters NaN or infinite", self.step)
        self._unread = ([], len(self.history.losses))
        self._kept = self._now.before
        return losses

    def _diverged(self, what: str, step: int) -> TrainingDivergedError:
        past = self.history.losses
        if past:
            remedy = "lower the learning rate, or clip gradients (clip_global_norm=1.0)"
            tale = f"{what} in step {step}; before, it was {past[-1]:.6g}; {remedy}."
        else:
            tale = f"{what} in the first step; look at x, t and the initial parameters."
        error = TrainingDivergedError(tale)
        error.step, (error.params, error.state), error.history = step, self._kept, self.history
        return error
