"""Watching one number of the history for improvement.

improved    v < best - min_delta       for losses
            v > best + min_delta       for an accuracy
"""

from __future__ import annotations

import math
from typing import Any

from anyprop._checks import choice, few
from anyprop.checkpoint import Checkpoint
from anyprop.training.callbacks.base import Callback
from anyprop.training.run import Run

MONITORS = ("train_loss", "validation_loss", "validation_accuracy")
"""Fields of `EpochRecord` that can be watched."""


class Monitor:
    """The best value so far of one field of `EpochRecord`, and the number of epochs since then."""

    def __init__(self, name: str, min_delta: float) -> None:
        choice("monitor", name, MONITORS)
        self.name, self.min_delta = name, min_delta
        self.best: float | None = None
        self.waited = 0

    def start(self, run: Run) -> None:
        """Start afresh; raise ValueError if the run does not measure what is watched."""
        if self.name not in run.monitors:
            why = (
                "this loss has no accuracy"
                if "validation_loss" in run.monitors
                else "fit got no validation=(x, t)"
            )
            raise ValueError(
                f"nothing to monitor: {why}, so there is no {self.name}; "
                f"use one of: {', '.join(run.monitors)}."
            )
        self.best, self.waited = None, 0

    def settings(self) -> dict[str, Any]:
        """Return what is watched and how."""
        return {"monitor": self.name, "min_delta": self.min_delta}

    def get_state(self) -> dict[str, Any]:
        """Return the best value and the number of epochs since then."""
        return {"best": self.best, "waited": self.waited}

    @staticmethod
    def check_state(state: dict[str, Any]) -> None:
        """Raise ValueError unless a state is one that `get_state` returns."""
        best, waited = state.get("best", math.nan), state.get("waited")
        known = best is None or (type(best) is float and math.isfinite(best))
        if not known or type(waited) is not int or waited < 0:
            raise ValueError(
                f"best and waited are {few([best, waited])}, expected a finite float or None, and a "
                "count of epochs."
            )

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self.best, self.waited = state["best"], state["waited"]

    def look(self, run: Run) -> bool:
        """Take in the newest record; return whether it is better than all before it."""
        value = getattr(run.history.epochs[-1], self.name)
        gain = -value if self.name.endswith("loss") else value
        if math.isfinite(gain) and (self.best is None or gain > self.best + self.min_delta):
            self.best, self.waited = gain, 0
            return True
        self.waited += 1
        return False


class Monitoring(Callback):
    """Base of callbacks that watch a number; what their monitor knows is resumed with a run."""

    _monitor: Monitor

    def get_state(self) -> dict[str, Any]:
        return self._monitor.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._monitor.set_state(state)

    @staticmethod
    def _check_state(state: dict[str, Any], found: Checkpoint) -> None:
        Monitor.check_state(state)

    def on_start(self, run: Run) -> None:
        self._monitor.start(run)
