"""A training run as callbacks see it, and the error that ends one."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import check_same_place, dtype_name, read, read_number
from anyprop.checkpoint import Checkpoint
from anyprop.history import History
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.continuing import check_continues
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, check_kind
from anyprop.training._last_good import LastGood, Snapshot


class TrainingDivergedError(ArithmeticError):
    """The loss or the parameters became NaN or infinite.

    Attributes
    ----------
    step : int
        The step in which that was detected, from 1.
    params, state : Parameters, OptimizerState
        Those of the last report before the failure; of the one before it, if the very next step had no
        finite loss.
    history : History
        The history up to the last finite loss.
    """

    step: int
    params: Parameters
    state: OptimizerState
    history: History


class Run:
    """What `fit` shows to its callbacks.

    Attributes
    ----------
    net, loss, optimizer
        As given to `fit`.
    params, state : Parameters, OptimizerState
        The present ones; a callback may replace them by others of the same layout. They are valid
        until the next step, which may work in place; `snapshot` returns what can be kept.
    step : int
        Steps done.
    epoch : int
        Passes through the data completed.
    batch : int
        Batches done of the present pass.
    settings : function of nothing to dict
        What the run's numbers depend on, to compare a resumed run with.
    callbacks : sequence of Callback
        As given to `fit`.
    resumed : bool
        Whether the run goes on from a checkpoint.
    history : History
        The losses and records so far; complete whenever a callback is called.
    monitors : tuple of str
        The fields of `EpochRecord` that this run measures and a callback may watch.
    """

    # So that an assignment to `stop`, or to what there is not, is an error and not without effect.
    __slots__ = [
        *("net", "loss", "optimizer", "monitors", "callbacks", "history", "step", "epoch", "batch"),
        *("began", "waited", "settled", "remembered", "amid_step", "resumed", "_settings", "_good"),
        *("_in_place", "_params", "_state", "_before", "_unread", "_stopped", "_held", "_last_lr"),
    ]

    def __init__(
        self,
        net: Layer,
        loss: Loss,
        optimizer: Optimizer,
        params: Parameters,
        state: OptimizerState,
        monitors: tuple[str, ...],
        *,
        in_place: bool = False,
        settings: Callable[[], Mapping[str, Any]] = dict,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.monitors = monitors
        self._settings, self.callbacks = settings, callbacks
        self.history = History()
        self.step = self.epoch = self.batch = 0
        self.began = time.perf_counter()  # the present epoch
        self.waited: float | None = None  # seconds of it, for data
        self.settled = False  # whether the run can be resumed from its present state
        self.remembered: Mapping[str, Any] = {}  # what the callbacks of a resumed run knew
        self.amid_step = self.resumed = False
        self._last_lr: float | None = None
        self._in_place = in_place
        self._params, self._state = params, state
        self._params, self._state = self.snapshot()
        # The state that the last step began with; only its numbers are read, not its arrays.
        self._before = self._state
        self._good = LastGood(self.snapshot())
        self._unread: list[Array | float] = []
        self._stopped = False
        self._held = contextlib.ExitStack()

    @property
    def params(self) -> Parameters:
        """The present parameters, until the next step."""
        return self._params

    @params.setter
    def params(self, params: Parameters) -> None:
        check_kind(params)
        now = self._params
        if params.layout != now.layout:
            raise ValueError(f"a run of {now} cannot go on with {params}.")
        check_same_place([("run.params", now._any), ("params", params._any)])
        if params._any.dtype != now._any.dtype:
            was, given = dtype_name(now._any), dtype_name(params._any)
            raise TypeError(f"a run of {was} parameters cannot go on with {given} ones.")
        if params.running is None and now.running is not None:
            raise ValueError(
                "a run whose network has running statistics cannot go on without them."
            )
        self._params = params.copy() if self._in_place else params

    @property
    def state(self) -> OptimizerState:
        """The present state of the optimizer, until the next step."""
        return self._state

    @state.setter
    def state(self, state: OptimizerState) -> None:
        check_continues(state, self._params, self._state)
        self._state = state.copy() if self._in_place else state

    def snapshot(self) -> Snapshot:
        """Return the present parameters and state in a form that later steps leave as it is."""
        if self._in_place:
            return self._params.copy(), self._state.copy()
        return self._params, self._state

    def go_on(self, found: Checkpoint, *, forget_stop: bool) -> None:
        """Continue from the state of the run that left a checkpoint."""
        history, place = found.history, found.run
        assert history is not None
        assert place is not None
        self.history = history
        self.step = len(history.losses)
        self.epoch, self.batch = place["epoch"], place["batch"]
        self.began = time.perf_counter() - place["seconds"]
        self.waited = place.get("waited")
        self._good = LastGood(self._good.newest, self.step)
        self._last_lr, self._stopped = place["lr"], place["stopped"] and not forget_stop
        self.resumed, self.remembered = True, place["callbacks"]

    @property
    def waiting(self) -> float:
        """Share of the present epoch so far in which the steps waited for data."""
        return (self.waited or 0.0) / max(time.perf_counter() - self.began, 1e-9)

    @property
    def lr(self) -> float:
        """Learning rate of the last update, or of the first before there was one."""
        if self._last_lr is not None:
            return self._last_lr
        return read_number(self.optimizer.learning_rate(self._before))

    def stop(self) -> None:
        """End the run as soon as the callbacks that are due have been called."""
        self._stopped = True

    @property
    def settings(self) -> dict[str, Any]:
        """What the run's numbers depend on; asked for where it is written into a file."""
        return dict(self._settings())

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def hold(self, context: AbstractContextManager[Any]) -> None:
        """Enter a context, which is left when the run ends, however it does."""
        self._held.enter_context(context)

    def close(self) -> None:
        """Leave the contexts that were entered by `hold`."""
        self._held.close()

    def advance(self, step: Callable[..., Any], batch: dict[str, Any]) -> None:
        """Run a step with a batch."""
        self._begin()
        self._before = self._state
        self._params, self._state, value = step(self._params, self._state, **batch)
        self._end([value], 1)

    def advance_by(
        self, steps: Callable[..., Any], data: Mapping[str, Any], batches: Sequence[Any]
    ) -> None:
        """Run a step with each of several batches of rows, all in one call."""
        self._begin()
        self._params, self._state, values = steps(self._params, self._state, data, batches)
        self._before = self._state._replace(step=self._state.step - 1)
        # On CuPy all losses are one vector.
        self._end([values] if hasattr(values, "dtype") else values, len(batches))

    def _begin(self) -> None:
        if self._good.due:
            self._good.keep(self.snapshot(), self.step)
        self._last_lr = None
        self.amid_step = True

    def _end(self, values: Sequence[Any], count: int) -> None:
        self.step += count
        self.batch += count
        self._unread.extend(values)
        self.amid_step = False

    def read_losses(self) -> list[float]:
        """Read the losses of the steps since the last call into the history, in one transfer.

        Raises
        ------
        TrainingDivergedError
            One of them is NaN or infinite, or a parameter is.
        """
        new = self.step - len(self.history.losses)
        if not new:
            return []
        xp = self.params.xp
        with np.errstate(all="ignore"):
            *losses, largest = read([*self._unread, xp.max(xp.abs(self.params.flat))])
        # Those before them are in the history, where Ctrl-C left them when it ended this function.
        losses = losses[-new:]
        for value in losses:
            if not math.isfinite(value):
                raise self._diverged(f"the loss is {value}", len(self.history.losses) + 1)
            self.history.losses.append(value)
        if not math.isfinite(largest):
            raise self._diverged("the update made parameters NaN or infinite", self.step)
        self._unread = []
        self._good.due = True
        return losses

    @contextlib.contextmanager
    def handing_over(self) -> Iterator[None]:
        """Attach to an error that ends the run inside what was trained until then."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            self._hand_over(error)
            raise

    def _hand_over(self, error: BaseException) -> None:
        """Attach to an error what was trained until then, and say so in a note."""
        if getattr(error, "history", None) is self.history:  # this run diverged
            return
        params, state = self.snapshot()
        try:
            self.read_losses()
        except TrainingDivergedError as diverged:
            params, state = diverged.params, diverged.state
        except Exception:  # the device may be what failed
            params, state = self._good.newest
        if self.amid_step and self._in_place:
            params, state = self._good.newest
        # An exception's class may refuse attributes; the base class sets them all the same.
        with contextlib.suppress(AttributeError, TypeError):
            for name, value in (("params", params), ("state", state), ("history", self.history)):
                BaseException.__setattr__(error, name, value)
            error.add_note(
                f"This error ended fit after {self.step} steps; what was trained until then is in its "
                "attributes params, state and history."
            )

    def _diverged(self, what: str, step: int) -> TrainingDivergedError:
        past = self.history.losses
        if past:
            remedy = "lower the learning rate, or clip gradients (clip_global_norm=1.0)"
            tale = f"{what} in step {step}; before, it was {past[-1]:.6g}; {remedy}."
        else:
            tale = f"{what} in the first step; look at x, t and the initial parameters."
        error = TrainingDivergedError(tale)
        error.step, error.history = step, self.history
        error.params, error.state = self._good.before(step)
        return error
