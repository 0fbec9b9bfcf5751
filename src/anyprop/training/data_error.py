"""The error of a run whose source fails."""

from __future__ import annotations

from anyprop._typing import Array
from anyprop.history import History
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters


class DataError(RuntimeError):
    """A source failed while a network was trained on it; what was trained until then is kept.

    What the source raised, or what is wrong with its numbers, is the error's cause.

    Attributes
    ----------
    epoch : int
        Passes through the data completed.
    batch : int
        Batches done of the present pass.
    rows : numpy.ndarray of int64
        The rows of the data that were asked for.
    params, state : Parameters, OptimizerState
        The last ones.
    history : History
        The history of the steps done.
    """

    epoch: int
    batch: int
    rows: Array
    params: Parameters
    state: OptimizerState
    history: History
