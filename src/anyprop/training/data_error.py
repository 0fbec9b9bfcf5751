"""The error of a run whose data fail."""

from __future__ import annotations

from typing import Any

from anyprop._checks import said
from anyprop._typing import Array
from anyprop.history import History
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters


class DataError(RuntimeError):
    """A Source or a Stream failed while a network was trained on it; what was trained is kept.

    What it raised, or what is wrong with its numbers, is the error's cause.

    Attributes
    ----------
    epoch : int
        Passes through the data completed.
    batch : int
        Batches done of the present pass.
    rows : numpy.ndarray of int64, or None
        The rows of the source that were asked for; None of a stream.
    params, state : Parameters, OptimizerState
        The last ones.
    history : History
        The history of the steps done.
    """

    epoch: int
    batch: int
    rows: Array | None
    params: Parameters
    state: OptimizerState
    history: History


def failed(
    what: str, failure: Exception, epoch: int, batch: int, rows: Any, *, begun: bool
) -> Exception:
    """Return the error to raise for the failure of some batches, called `what`.

    It is a DataError if training has `begun`, and otherwise the failure itself, as of any argument.
    """
    if not begun:
        failure.add_note(f"It was raised for {what}.")
        return failure
    error = DataError(f"{what}: {said(failure)}.")
    error.epoch, error.batch, error.rows = epoch, batch, rows
    error.__cause__ = failure
    return error
