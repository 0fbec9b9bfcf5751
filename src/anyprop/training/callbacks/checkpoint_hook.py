"""CheckpointHook: something to be saved every few epochs."""

from __future__ import annotations

from collections.abc import Callable

from anyprop._checks import count
from anyprop.parameters import Parameters
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run


class CheckpointHook(Callback):
    """Call a function every few epochs, and at the end of a run for the parameters it ends with.

    Stand it behind `EarlyStopping`, which restores the best ones at the end. What `save` keeps in memory
    it takes from ``run.snapshot()``; a file needs no copy.

    Parameters
    ----------
    save : callable
        ``save(run)``, which writes what it wants of the `Run`.
    every : int >= 1
        How many epochs lie between two calls.

    Examples
    --------
    >>> import anyprop as ap
    >>> hook = CheckpointHook(lambda run: ap.save("model.safetensors", run.params, net=run.net))
    """

    def __init__(self, save: Callable[[Run], object], *, every: int = 1) -> None:
        if not callable(save):
            raise TypeError(f"CheckpointHook: save must be a function of the run, not {save!r}.")
        self.save = save
        self.every = count("CheckpointHook", "every", every)

    def on_start(self, run: Run) -> None:
        self._saved: tuple[Parameters, int] | None = None

    def on_epoch(self, run: Run) -> None:
        if len(run.history.epochs) % self.every == 0:
            self._save(run)

    def on_end(self, run: Run) -> None:
        if self._saved is None or self._saved != self._present(run):
            self._save(run)

    def _save(self, run: Run) -> None:
        self.save(run)
        self._saved = self._present(run)

    @staticmethod
    def _present(run: Run) -> tuple[Parameters, int]:
        # Steps in place keep the object and change its numbers; a callback does it the other way.
        return run.params, int(run.state.step)
