"""What a callback is.

`fit` calls these methods of each callback, in the order in which the callbacks were given:

    on_start(run)    before the first step; the place to refuse a run
    on_report(run)   when losses have been read, every `report_every` steps and at the end of an epoch
    on_epoch(run)    when the record of an epoch has entered the history
    on_settled(run)  when the run can be resumed from its present state: after a step, after the last
                     `on_epoch` of an epoch, and before `on_end`
    on_end(run)      after the last step, also when `stop` or Ctrl-C ended the run

`run` is a `Run`: it shows the state of the training; a callback may replace `run.params` and
`run.state`, and `run.stop()` ends it. A callback starts afresh in `on_start`, so that one object
can serve several runs one after the other. An error in a callback ends `fit` with that error.

State that a resumed run needs is returned by `get_state` and restored by `set_state`, which is
called after `on_start`: plain values, and `Parameters` and `OptimizerState`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyprop._usage import Advising
from anyprop.training.run import Run


class Callback(Advising):
    """Base of all callbacks; does nothing.

    Examples
    --------
    >>> class Print(Callback):
    ...     def on_epoch(self, run):
    ...         print(run.epoch, run.history.epochs[-1].train_loss)
    """

    _place: Path | None = None
    """The file or folder that no other callback of a run may write."""

    def on_start(self, run: Run) -> None:
        """Prepare for a run that is about to begin."""

    def on_report(self, run: Run) -> None:
        """Handle losses that have just been read."""

    def on_epoch(self, run: Run) -> None:
        """Handle the end of an epoch."""

    def on_settled(self, run: Run, *, ending: bool) -> None:
        """Handle a state from which the run can be resumed; `ending` if it is the last one."""

    def on_end(self, run: Run) -> None:
        """Finish."""

    def settings(self) -> dict[str, Any]:
        """Return the options that change a run's numbers, so that a resumed run can be compared."""
        return {}

    def get_state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
