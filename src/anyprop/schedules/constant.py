"""Constant: the same at all times.

lr
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anyprop._checks import fields, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate at all times; used inside `Join` and `Warmup`.

    Parameters
    ----------
    lr : float > 0
        Learning rate.

    Examples
    --------
    >>> Constant(0.1)(1000)
    0.1
    """

    lr: float

    def __post_init__(self) -> None:
        fields(self, lr=positive)

    @classmethod
    def for_run(cls, lr: float, steps: int) -> Self:
        return cls(lr)

    def at(self, xp: Namespace, t: Array) -> Array:
        return xp.full_like(t, self.lr)
