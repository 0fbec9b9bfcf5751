"""Join: one schedule after another.

schedules[i](step - boundaries[i-1])          while boundaries[i-1] <= step < boundaries[i]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anyprop._checks import count, each, fields
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, a_schedule, check_boundaries


@dataclass(frozen=True)
class Join(Schedule):
    """Use one schedule after another; each counts the steps from where it begins.

    Parameters
    ----------
    schedules : sequence of Schedule
        The schedules.
    boundaries : sequence of int >= 1, one fewer than schedules
        Steps from which the next schedule applies, in rising order.

    Raises
    ------
    TypeError, ValueError
        A schedule or a boundary is not one of those above, their numbers do not fit, or the boundaries
        do not rise.

    Examples
    --------
    >>> from anyprop.schedules import Constant, Linear
    >>> schedule = Join([Constant(0.1), Linear(0.1, steps=100)], [1000])
    >>> schedule(999), schedule(1050)
    (0.1, 0.05)
    """

    schedules: Sequence[Schedule]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        fields(self, schedules=each(a_schedule), boundaries=each(count))
        check_boundaries(self, "schedules", self.schedules, self.boundaries)

    def at(self, xp: Namespace, t: Array) -> Array:
        lr = self.schedules[0].at(xp, t)
        for schedule, boundary in zip(self.schedules[1:], self.boundaries, strict=True):
            start = float(boundary)
            lr = xp.where(t >= start, schedule.at(xp, xp.maximum(t - start, 0.0)), lr)
        return lr
