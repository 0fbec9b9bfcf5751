"""Warmup: a straight line, then another schedule.

start + (then(0) - start) step / steps          while step < steps
then(step - steps)                              from there on
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import count, fields, non_negative, younger
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, a_schedule


@dataclass(frozen=True)
class Warmup(Schedule):
    """Raise the learning rate in a straight line, then go on with another schedule.

    The first update has a learning rate of 0 by default; it only lets an optimizer collect its first
    means.

    Parameters
    ----------
    steps : int >= 1
        Steps after which `then` begins.
    then : Schedule
        What follows; the line leads to its first learning rate.
    start : float >= 0
        Learning rate from which the line begins.

    Examples
    --------
    >>> from anyprop.schedules import Cosine
    >>> schedule = Warmup(10, Cosine(0.1, steps=100))
    >>> schedule(0), schedule(5), schedule(10), schedule(110)
    (0.0, 0.05, 0.1, 0.0)
    """

    steps: int
    then: Schedule
    start: float = younger(0.0)

    def __post_init__(self) -> None:
        fields(self, steps=count, then=a_schedule, start=non_negative)

    def at(self, xp: Namespace, t: Array) -> Array:
        first = self.then.at(xp, xp.zeros_like(t))
        after = self.then.at(xp, xp.maximum(t - float(self.steps), 0.0))
        rising = self.start + (first - self.start) * (t / self.steps)
        return xp.where(t < float(self.steps), rising, after)
