"""Linear: a straight line.

lr + (end - lr) step / steps                and `end` from there on
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anyprop._checks import count, fields, non_negative
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule


@dataclass(frozen=True)
class Linear(Schedule):
    """Change from one learning rate to another in a straight line.

    Parameters
    ----------
    lr : float >= 0
        Learning rate of the first step.
    steps : int >= 1
        Steps after which `end` is reached.
    end : float >= 0
        Learning rate from there on.

    Examples
    --------
    >>> schedule = Linear(0.1, steps=100)
    >>> schedule(50), schedule(200)
    (0.05, 0.0)
    """

    lr: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        fields(self, lr=non_negative, steps=count, end=non_negative)

    @classmethod
    def for_run(cls, lr: float, steps: int) -> Self:
        return cls(lr, steps)

    def at(self, xp: Namespace, t: Array) -> Array:
        return self.lr + (self.end - self.lr) * (xp.minimum(t, float(self.steps)) / self.steps)
