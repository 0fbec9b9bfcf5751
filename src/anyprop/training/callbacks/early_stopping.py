"""EarlyStopping: end a run that no longer improves, and go back to its best epoch."""

from __future__ import annotations

from typing import Any

from anyprop._checks import count, non_negative
from anyprop.checkpoint import Checkpoint
from anyprop.network import check_running
from anyprop.optimizers.continuing import check_continues
from anyprop.parameters import check_kind
from anyprop.training.callbacks.monitor import Monitor, Monitoring
from anyprop.training.run import Run


class EarlyStopping(Monitoring):
    """Stop when a number has not improved for some epochs, and restore the best parameters.

    At the end of the run, however it ends, its parameters (with the running statistics) and its
    optimizer's state are those after the best epoch.

    Parameters
    ----------
    monitor : {"validation_loss", "validation_accuracy", "train_loss"}
        What to watch.
    patience : int >= 1
        Number of epochs in a row that may bring no improvement.
    min_delta : float >= 0
        Improvements up to this size do not count.

    Raises
    ------
    TypeError, ValueError
        Unknown monitor, or an option of another kind or out of range; ValueError also at the start of a
        run, if there are no validation data.

    References
    ----------
    Prechelt, "Early stopping - but when?", 1998.

    Examples
    --------
    >>> callback = EarlyStopping(patience=3)
    """

    def __init__(
        self, monitor: str = "validation_loss", *, patience: int = 5, min_delta: float = 0.0
    ) -> None:
        self._monitor = Monitor(monitor, non_negative("EarlyStopping", "min_delta", min_delta))
        self.patience = count("EarlyStopping", "patience", patience)

    def settings(self) -> dict[str, Any]:
        return {**self._monitor.settings(), "patience": self.patience}

    def get_state(self) -> dict[str, Any]:
        params, state = self._best
        return {**super().get_state(), "params": params, "state": state}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._best = state["params"], state["state"]

    @staticmethod
    def _check_state(state: dict[str, Any], found: Checkpoint) -> None:
        Monitoring._check_state(state, found)
        params: Any = state.get("params")
        kept: Any = state.get("state")
        check_kind(params)
        check_running(params)
        assert found.state is not None
        check_continues(kept, params, found.state)

    def on_start(self, run: Run) -> None:
        super().on_start(run)
        self._best = run.snapshot()

    def on_epoch(self, run: Run) -> None:
        if self._monitor.look(run):
            self._best = run.snapshot()
        elif self._monitor.waited >= self.patience:
            run.stop()

    def on_end(self, run: Run) -> None:
        if self._monitor.best is not None:
            run.params, run.state = self._best
