"""What a callback is.

`fit` calls these methods of each callback, in the order in which the callbacks were given:

    on_start(run)    before the first step; the place to refuse a run
    on_report(run)   when losses have been read, every `report_every` steps and at the end of an epoch
    on_epoch(run)    when the record of an epoch has entered the history
    on_settled(run)  when the run stands where it can be resumed from: after a step, after the last
                     `on_epoch` of an epoch, and before `on_end`
    on_end(run)      after the last step, also when `stop` or Ctrl-C ended the run

`run` is a `Run`: it shows where training stands, lets a callback replace `run.params` and `run.state`,
and ends by `run.stop()`. A callback starts anew in `on_start`, so that one object can serve several
runs one after the other. An error in a callback ends `fit` with that error.

What a callback learns in a run, and a resumed run shall know, it gives as `get_state` and takes back by
`set_state`, which is called after `on_start`: plain values, and `Parameters` and `OptimizerState`.
"""

from __future__ import annotations

from typing import Any

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

    def on_settled(self, run: Run, *, ending: bool) -> None:
        """Look at a place from which the run can be resumed; `ending` if it is the last one."""

    def on_end(self, run: Run) -> None:
        """Finish."""

    def settings(self) -> dict[str, Any]:
        """Give the options that change a run's numbers, so that a resumed run can be compared."""
        return {}

    def get_state(self) -> dict[str, Any]:
        """Give what a resumed run needs to know."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""
