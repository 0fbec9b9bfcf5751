"""ReduceLROnPlateau: smaller steps when larger ones no longer help."""

from __future__ import annotations

from typing import Any

from anyprop._checks import count, fraction, non_negative
from anyprop.training.callbacks.monitor import Monitor, Monitoring
from anyprop.training.run import Run


class ReduceLROnPlateau(Monitoring):
    """Multiply the learning rate by a factor when a number has stopped improving.

    The factor goes into the optimizer's state, so it stays in force when training is continued from
    there, and it multiplies whatever a schedule says.

    Parameters
    ----------
    monitor : {"validation_loss", "validation_accuracy", "train_loss"}
        What to watch.
    factor : float in [0, 1)
        Factor on the learning rate.
    patience : int >= 1
        Number of epochs in a row that may bring no improvement, at the start and after each
        reduction.
    min_delta : float >= 0
        Improvements up to this size do not count.
    min_lr : float >= 0
        Smallest learning rate that a reduction leads to.

    Raises
    ------
    TypeError, ValueError
        Unknown monitor, or an option of another kind or out of range; ValueError also at the start of a
        run, if there are no validation data.

    Examples
    --------
    >>> callback = ReduceLROnPlateau("train_loss", factor=0.5)
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        *,
        factor: float = 0.1,
        patience: int = 3,
        min_delta: float = 0.0,
        min_lr: float = 0.0,
    ) -> None:
        owner = "ReduceLROnPlateau"
        self._monitor = Monitor(monitor, non_negative(owner, "min_delta", min_delta))
        self.factor = fraction(owner, "factor", factor)
        self.patience = count(owner, "patience", patience)
        self.min_lr = non_negative(owner, "min_lr", min_lr)

    def settings(self) -> dict[str, Any]:
        own = {"factor": self.factor, "patience": self.patience, "min_lr": self.min_lr}
        return {**self._monitor.settings(), **own}

    def on_epoch(self, run: Run) -> None:
        if self._monitor.look(run) or self._monitor.waited < self.patience:
            return
        self._monitor.waited = 0
        lr = run.lr
        if lr > self.min_lr:
            factor = max(self.factor, self.min_lr / lr)
            run.state = run.state._replace(lr_scale=run.state.lr_scale * factor)
