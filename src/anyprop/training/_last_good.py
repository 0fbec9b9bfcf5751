"""What is returned of a run that goes wrong.

    steps     1  2  3  4  |  5  6  7  8  |  9  10 ...       | losses were read, and all were finite
    kept    A             B              C                  parameters and state before steps 1, 5, 9

The loss of a step is computed from what the step before it left, so C is known to be good only when
the loss of step 9 is finite. Only two are kept at a time. What ends a run decides what it returns:

    the loss of step 9 is bad                                  B, for the bad loss came from C
    a later loss is bad, or the parameters are                 C
    an error between two steps, or in one that makes new arrays    the present parameters
    an error in a step that works in place                     C, for it may have done half of its work
    an error, and the device cannot be read any more           C
    Ctrl-C between two steps                                   the present parameters
"""

from __future__ import annotations

from typing import TypeAlias

from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters

Snapshot: TypeAlias = tuple[Parameters, OptimizerState]
"""Parameters and state that no later step changes."""


class LastGood:
    """The snapshots of a run after the last two reports; it starts after so many steps."""

    def __init__(self, start: Snapshot, step: int = 0) -> None:
        self.newest = self._older = start
        self._step = step
        self.due = False
        """Whether losses were read since `keep`; then the next step begins with a snapshot."""

    def keep(self, snapshot: Snapshot, step: int) -> None:
        """Keep the run's state after so many steps, in place of the older snapshot."""
        self._older, self.newest = self.newest, snapshot
        self._step, self.due = step, False

    def before(self, bad: int) -> Snapshot:
        """Return the last snapshot from which a step before the bad one computed a finite loss."""
        return self.newest if bad > self._step + 1 else self._older
