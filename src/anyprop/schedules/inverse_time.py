"""InverseTime: falls as one over the step.

lr / (1 + decay step)
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import fields, non_negative, optional, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, stopped


@dataclass(frozen=True)
class InverseTime(Schedule):
    """Divide the learning rate by a number that grows with the step.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    decay : float > 0
        Growth of the divisor in each step; after 1 / decay steps the learning rate has halved.
    end : float >= 0, optional
        Learning rate that it does not fall below; none by default.

    References
    ----------
    Robbins & Monro, "A stochastic approximation method", 1951: such a decay lets SGD converge.

    Examples
    --------
    >>> InverseTime(0.1, decay=0.01)(100)
    0.05
    """

    lr: float
    decay: float
    end: float | None = None

    def __post_init__(self) -> None:
        fields(self, lr=positive, decay=positive, end=optional(non_negative))

    def at(self, xp: Namespace, t: Array) -> Array:
        return stopped(xp, self.lr / (1.0 + self.decay * t), self.end)
