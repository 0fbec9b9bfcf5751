"""Cosine: half a cosine.

end + (lr - end) ((1 + cos(pi step / steps)) / 2)^exponent      and `end` from there on
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anyprop._checks import count, fields, non_negative, positive, younger
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, half_cosine


@dataclass(frozen=True)
class Cosine(Schedule):
    """Change from one learning rate to another along half a cosine: flat at first, and at the end.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    steps : int >= 1
        Steps after which `end` is reached.
    end : float >= 0
        Learning rate from there on.
    exponent : float > 0
        Power of the falling cosine; above 1 it falls earlier, below 1 later.

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> schedule = Cosine(0.1, steps=100)
    >>> schedule(0), round(schedule(50), 6), schedule(200)
    (0.1, 0.05, 0.0)
    """

    lr: float
    steps: int
    end: float = 0.0
    exponent: float = younger(1.0)

    def __post_init__(self) -> None:
        fields(self, lr=positive, steps=count, end=non_negative, exponent=positive)

    @classmethod
    def for_run(cls, lr: float, steps: int) -> Self:
        return cls(lr, steps)

    def at(self, xp: Namespace, t: Array) -> Array:
        return half_cosine(xp, self.lr, self.end, t / self.steps, exponent=self.exponent)
