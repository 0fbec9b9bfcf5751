"""StepDecay: falls by a factor every so many steps.

lr factor^floor(step / every)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from anyprop._checks import count, fields, non_negative, optional, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, stopped


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the learning rate by a factor after every so many steps.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first steps.
    factor : float > 0
        Factor at each drop.
    every : int >= 1
        Steps from one drop to the next.
    end : float >= 0, optional
        Learning rate that it does not pass; none by default.

    Examples
    --------
    >>> schedule = StepDecay(0.1, factor=0.5, every=100)
    >>> schedule(99), schedule(100)
    (0.1, 0.05)
    """

    lr: float
    factor: float
    every: int
    end: float | None = None

    def __post_init__(self) -> None:
        fields(self, lr=positive, factor=positive, every=count, end=optional(non_negative))

    @classmethod
    def for_run(cls, lr: float, steps: int) -> Self:
        return cls(lr, factor=0.1, every=math.ceil(steps / 3))

    def at(self, xp: Namespace, t: Array) -> Array:
        lr = self.lr * self.factor ** xp.floor(t / self.every)
        return stopped(xp, lr, self.end, rising=self.factor > 1.0)
