"""Losses by name."""

from __future__ import annotations

from anyprop._checks import unknown
from anyprop.losses.base import Loss
from anyprop.losses.huber import Huber
from anyprop.losses.mean_absolute_error import MeanAbsoluteError
from anyprop.losses.mean_squared_error import MeanSquaredError
from anyprop.losses.poisson_nll import PoissonNLL
from anyprop.losses.sigmoid_cross_entropy import SigmoidCrossEntropy
from anyprop.losses.softmax_cross_entropy import SoftmaxCrossEntropy

LOSSES: dict[str, type[Loss]] = {
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "sigmoid_cross_entropy": SigmoidCrossEntropy,
    "mean_squared_error": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "poisson_nll": PoissonNLL,
}
"""Name -> class of every loss."""


def get_loss(name: str) -> type[Loss]:
    """Get the class of a loss by its name.

    Parameters
    ----------
    name : str
        A key of `LOSSES`.

    Returns
    -------
    type
        A subclass of `Loss` that can be made without arguments.

    Raises
    ------
    ValueError
        The name is unknown; the message shows the nearest one.

    Examples
    --------
    >>> get_loss("huber")()
    Huber(delta=1.0)
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
