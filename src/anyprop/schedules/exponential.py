"""Exponential: falls (or rises) by a factor over any equal number of steps.

lr factor^(step / every)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anyprop._checks import count, fields, non_negative, optional, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, stopped


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiply the learning rate by the same factor over any equal number of steps.

    Parameters
    ----------
    lr : float > 0
        Learning rate of the first step.
    factor : float > 0
        Factor over `every` steps; above 1, the learning rate rises.
    every : int >= 1
        Steps that the factor refers to.
    end : float >= 0, optional
        Learning rate that it does not pass; none by default.

    Examples
    --------
    >>> schedule = Exponential(0.1, factor=0.01, every=1000)
    >>> round(schedule(500), 6)
    0.01
    """

    lr: float
    factor: float
    every: int = 1
    end: float | None = None

    def __post_init__(self) -> None:
        fields(self, lr=positive, factor=positive, every=count, end=optional(non_negative))

    @classmethod
    def for_run(cls, lr: float, steps: int) -> Self:
        return cls(lr, factor=0.01, every=steps)

    def at(self, xp: Namespace, t: Array) -> Array:
        lr = self.lr * self.factor ** (t / self.every)
        return stopped(xp, lr, self.end, rising=self.factor > 1.0)
