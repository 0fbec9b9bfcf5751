"""What `fit` does beside training when there are several ranks.

They start from the same arguments, parameters and state; they stop at the same step; rank 0 alone calls
the callbacks, and what these change reaches all; and where one rank's rows spoil the loss, its number is
told. With one rank nothing of this costs anything.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.checkpoint import Checkpoint
from anyprop.distributed.communicator import Communicator, any_rank, share
from anyprop.distributed.data_parallel import broadcast_parameters
from anyprop.parameters import Parameters
from anyprop.training._host import read_number
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run, TrainingDivergedError


class Ranks:
    """The ranks of a run.

    Parameters
    ----------
    communicator : Communicator
        Connects them.
    """

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self.several = communicator.size > 1
        self._seen: list[Array] = []
        self._seen_from = 0

    @contextlib.contextmanager
    def agreeing(self) -> Iterator[None]:
        """Raise on all ranks what is refused within on at least one of them."""
        if not self.several:
            yield
            return
        refusal: Exception | None = None
        try:
            yield
        except Exception as error:  # whatever it is, the others would wait for this rank
            refusal = error
        if self.any(refusal is not None):
            told = self.communicator.gather(refusal and f"{type(refusal).__name__}: {refusal}")
            named = [(rank, what) for rank, what in enumerate(told or ()) if what]
            rank, what = share(self.communicator, named[0] if named else None)
            raise refusal or ValueError(f"rank {rank} refused its arguments: {what}")

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError on all ranks if they were given different `settings`."""
        # Without the addresses of objects, which differ from process to process.
        told = {name: re.sub(r" at 0x[0-9a-f]+", "", repr(v)) for name, v in settings.items()}
        gathered = self.communicator.gather(told)
        differs = np.zeros(len(settings))
        for i, name in enumerate(settings if gathered is not None else ()):
            differs[i] = len({given[name] for given in gathered or ()}) > 1
        differs = self.communicator.broadcast(differs)
        names = [name for name, bad in zip(settings, differs, strict=True) if bad]
        if names:
            raise ValueError(
                f"the ranks were given different {', '.join(names)}; all must call fit alike, and "
                "each takes its own rows."
            )

    def read(self, load: Callable[[], Checkpoint], params: Parameters) -> Checkpoint:
        """Read a checkpoint on rank 0; the others get all but its arrays, or the same error."""
        if not self.several:
            return load()
        found: Any = None
        if self.communicator.rank == 0:
            try:
                found = load()
            except Exception as error:  # whatever it is, the others wait for it
                found = error
        told = found
        if isinstance(found, Checkpoint):  # of callbacks, which only rank 0 calls, nothing either
            told = found.step, found.history, {**(found.run or {}), "callbacks": {}}
        told = share(self.communicator, told)
        if isinstance(told, Exception):
            raise told
        if isinstance(found, Checkpoint):
            return found
        step, history, run = told
        return Checkpoint(None, params, step=step, history=history, run=run)

    def call(self, callbacks: Sequence[Callback], event: str, run: Run, **options: Any) -> None:
        """Call a method of all callbacks on rank 0, and give what it did to the run to the others."""
        if not self.several:
            for callback in callbacks:
                getattr(callback, event)(run, **options)
            return
        params, state, diverged = run.params, run.state, False
        failure: Exception | None = None
        if self.communicator.rank == 0:
            try:
                for callback in callbacks:
                    getattr(callback, event)(run, **options)
            except TrainingDivergedError:  # a checkpoint has read the losses
                diverged = True
            except Exception as error:  # whatever it is, the others wait for it
                failure = error
        changed = params is not run.params or state is not run.state
        flags = np.asarray([run.stopped, changed, diverged, failure is not None], dtype="float64")
        stopped, changed, diverged, failed = (
            self.communicator.broadcast(flags).astype(bool).tolist()
        )
        if failed:
            told = share(self.communicator, failure and f"{type(failure).__name__}: {failure}")
            raise failure or RuntimeError(f"a callback failed on rank 0: {told}")
        if diverged:
            self.read_losses(run)
        if stopped:
            run.stop()
        if changed:
            run.params, run.state = broadcast_parameters(run.params, run.state, self.communicator)

    def any(self, flag: bool) -> bool:
        """Tell every rank whether `flag` is true on at least one."""
        return any_rank(self.communicator, flag)

    def observe(self, local: Array) -> None:
        """Keep the loss of this rank's rows in one step until the losses are read."""
        self._seen.append(local)

    def read_losses(self, run: Run) -> list[float]:
        """Do `run.read_losses`, and name the ranks whose rows made the loss NaN or infinite."""
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
        named = ", ".join(map(str, ranks))
        return (
            f" It came from the rows of rank {named}."
            if len(ranks) == 1
            else (f" It came from the rows of ranks {named}.")
        )
