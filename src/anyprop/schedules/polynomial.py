"""Polynomial: a power of the steps that are left.

end + (lr - end) (1 - step / steps)^power                and `end` from there on
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import count, fields, non_negative, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Change from one learning rate to another along a power; with `power` 1 that is `Linear`.

    Parameters
    ----------
    lr : float >= 0
        Learning rate of the first step.
    steps : int >= 1
        Steps after which `end` is reached.
    power : float > 0
        Power of the share of steps left; above 1, the learning rate changes most at the start.
    end : float >= 0
        Learning rate from there on.

    Examples
    --------
    >>> schedule = Polynomial(0.1, steps=100, power=2.0)
    >>> schedule(0), schedule(50), schedule(100)
    (0.1, 0.025, 0.0)
    """

    lr: float
    steps: int
    power: float
    end: float = 0.0

    def __post_init__(self) -> None:
        fields(self, lr=non_negative, steps=count, power=positive, end=non_negative)

    def at(self, xp: Namespace, t: Array) -> Array:
        # Not 1 - t / steps, which a compiler may round to less than 0.
        left = (self.steps - xp.minimum(t, float(self.steps))) / self.steps
        return self.end + (self.lr - self.end) * left**self.power
