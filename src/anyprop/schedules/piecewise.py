"""Piecewise: one learning rate after another.

values[i] while boundaries[i-1] <= step < boundaries[i]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anyprop._checks import count, each, fields, non_negative
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, check_boundaries


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Use one learning rate after another.

    Parameters
    ----------
    values : sequence of float >= 0
        Learning rates.
    boundaries : sequence of int >= 1, one fewer than values
        Steps from which the next value applies, in rising order.

    Raises
    ------
    TypeError, ValueError
        A value or a boundary is not one of those above, their numbers do not fit, or the boundaries do
        not rise.

    Examples
    --------
    >>> schedule = Piecewise([0.1, 0.01, 0.001], [100, 200])
    >>> schedule(99), schedule(100), schedule(500)
    (0.1, 0.01, 0.001)
    """

    values: Sequence[float]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        fields(self, values=each(non_negative), boundaries=each(count))
        check_boundaries(self, "values", self.values, self.boundaries)

    def at(self, xp: Namespace, t: Array) -> Array:
        lr = xp.full_like(t, self.values[0])
        for value, boundary in zip(self.values[1:], self.boundaries, strict=True):
            lr = xp.where(t >= float(boundary), value, lr)
        return lr
