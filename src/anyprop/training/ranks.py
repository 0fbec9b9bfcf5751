"""What `fit` does besides training when there are several ranks.

They start from the same arguments, parameters and state; they stop at the same step; rank 0 alone calls
the callbacks, and what these change reaches all; what fails on one rank between two steps ends all; and
where one rank's rows spoil the loss, its number is reported. With one rank none of this costs
anything.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import read_number
from anyprop.checkpoint import Checkpoint
from anyprop.distributed.communicator import (
    Communicator,
    agreeing,
    any_rank,
    attempted,
    end_together,
    share,
)
from anyprop.distributed.data_parallel import broadcast_parameters
from anyprop.parameters import Parameters
from anyprop.training.run import Run, TrainingDivergedError


class Ranks:
    """The ranks of a run."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.several = communicator.size > 1
        self._seen: list[Array] = []
        self._seen_from = 0

    def agreeing(self, *, refusing: bool = False) -> AbstractContextManager[None]:
        """Raise on all ranks an error that is raised inside on at least one of them."""
        return agreeing(self.communicator, refusing=refusing)

    def check_same(self, function: str, settings: Mapping[str, Any]) -> None:
        """Raise ValueError on all ranks if they called `function` with different `settings`."""
        # Without the addresses of objects, which differ from process to process.
        told = {name: re.sub(r" at 0x[0-9a-f]+", "", repr(v)) for name, v in settings.items()}
        gathered = self.communicator.gather(told) or ()
        differ = [name for name in told if len({given[name] for given in gathered}) > 1]
        if differ := share(self.communicator, differ):
            raise ValueError(
                f"the ranks were given different {', '.join(differ)}; all must call {function} "
                "alike, and each takes its own rows."
            )

    def read(self, load: Callable[[], Checkpoint], params: Parameters) -> Checkpoint:
        """Read a checkpoint on rank 0; the others get all but its arrays, or the same error."""
        if not self.several:
            return load()
        found: Checkpoint | None = None
        told: Any = None
        if self.communicator.rank == 0:
            found, told = attempted(load)
            if found is not None:  # of callbacks, which only rank 0 calls, nothing either
                told = found.step, found.history, {**(found.run or {}), "callbacks": {}}
        told = share(self.communicator, told)
        if isinstance(told, Exception):
            raise told
        if found is not None:
            return found
        step, history, run = told
        return Checkpoint(None, params, step=step, history=history, run=run)

    def call(self, work: Callable[[], object], run: Run) -> None:
        """Run what rank 0 does besides training; its effects on the run apply to the others too."""
        if not self.several:
            work()
            return
        params, state = run.params, run.state
        _, error = attempted(work) if self.communicator.rank == 0 else (None, None)
        # A checkpoint may have read the losses.
        diverged = error is not None and getattr(error, "history", None) is run.history
        changed = params is not run.params or state is not run.state
        flags = np.asarray([run.stopped, changed, diverged, error is not None], dtype="float64")
        stopped, changed, diverged, failed = (
            self.communicator.broadcast(flags).astype(bool).tolist()
        )
        if failed and not diverged:
            end_together(self.communicator, error)
        if diverged:
            self.read_losses(run)
        if stopped:
            run.stop()
        if changed:
            run.params, run.state = broadcast_parameters(run.params, run.state, self.communicator)

    def alike(self, work: Callable[[], tuple[Any, bytes]], flag: bool) -> tuple[Any, bool]:
        """Run on every rank what must have the same result, as their next step depends on it.

        `work` returns a value, and bytes that are the same where the values are. Returned is this rank's
        value, and whether `flag`, something else to report, is true on any rank.
        """
        done, error = attempted(work)
        value, told = done or (None, b"")
        number = zlib.crc32(told) >> 12  # 20 bits, whose squares add up exactly
        sent = [error is not None, flag, number, number**2]
        failed, flags, total, squares = self.communicator.all_reduce(
            np.asarray(sent, dtype="float64")
        ).tolist()
        if failed:
            end_together(self.communicator, error)
        if self.communicator.size * squares != total**2:  # equal for equal numbers only
            raise ValueError(
                "the ranks drew different batches or learning rates; both must follow from the "
                "arguments of the function alone, so seed what is random by the epoch or the step."
            )
        return value, flags > 0

    def any(self, flag: bool) -> bool:
        """Return on every rank whether `flag` is true on at least one."""
        return any_rank(self.communicator, flag)

    def observe(self, local: Array) -> None:
        """Keep the loss of this rank's rows in one step until the losses are read."""
        self._seen.append(local)

    def read_losses(self, run: Run) -> list[float]:
        """Call `run.read_losses`, and name the ranks whose rows made the loss NaN or infinite."""
        try:
            losses = run.read_losses()
        except TrainingDivergedError as error:
            if self.several:
                error.args = (f"{error}{self._blame(error.step - 1 - self._seen_from)}",)
            raise
        self._seen, self._seen_from = [], run.step
        return losses

    def _blame(self, i: int) -> str:
        bad = np.zeros(self.communicator.size)
        bad[self.communicator.rank] = not math.isfinite(read_number(self._seen[i]))
        ranks = np.flatnonzero(self.communicator.all_reduce(bad)).tolist()
        if not ranks or len(ranks) == self.communicator.size:
            return ""
        which = "rank" if len(ranks) == 1 else "ranks"
        return f" It came from the rows of {which} {', '.join(map(str, ranks))}."
