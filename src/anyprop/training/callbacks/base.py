"""What a callback is.

`fit` calls four methods of each callback, in the order in which the callbacks were given:

    on_start(run)    before the first step; the place to refuse a run
    on_report(run)   when losses have been read, every `report_every` steps and at the end of an epoch
    on_epoch(run)    when the record of an epoch has entered the history
    on_end(run)      after the last step, also when `stop` or Ctrl-C ended the run

`run` is a `Run`: it shows where training stands, lets a callback replace `run.params` and `run.state`,
and ends by `run.stop()`. A callback starts anew in `on_start`, so that one object can serve several
runs one after the other. An error in a callback ends `fit` with that error.
"""

from __future__ import annotations

from anyprop.training.run import Run


class Callback:
    """Base of all callbacks; does nothing.

    Examples
    --------
    >>> class Print(Callback):
    ...     def on_epoch(self, run):
    ...         print(run.epoch, run.history.epochs[-1].train_loss)
    """

    def on_start(self, run: Run) -> None:
        """Prepare for a run that is about to begin."""

    def on_report(self, run: Run) -> None:
        """Look at losses that have just been read."""

    def on_epoch(self, run: Run) -> None:
        """Look at the end of an epoch."""

    def on_end(self, run: Run) -> None:
        """Finish."""
