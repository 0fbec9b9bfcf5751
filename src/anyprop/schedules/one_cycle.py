"""OneCycle: half a cosine up to lr, then half a cosine down.

first = start_factor lr,  last = end_factor lr,  top = rise steps - 1
first + (lr - first) (1 - cos(pi step / top)) / 2                         while step < top
last + (lr - last) (1 + cos(pi (step - top) / (steps - 1 - top))) / 2     and `last` from steps - 1 on
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from anyprop._checks import count, fields, fraction, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, half_cosine


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise to a high learning rate, then fall far below the first one, each along half a cosine.

    The highest is reached at step `rise` * `steps` - 1, the lowest at `steps` - 1. Where that leaves no
    step to rise in, with `rise` = 0 or very few steps, it begins at the highest; PyTorch's OneCycleLR
    begins a little below it there, and is the same otherwise.

    Parameters
    ----------
    lr : float > 0
        Highest learning rate.
    steps : int >= 1
        Steps of the whole cycle; afterwards the last learning rate stays.
    rise : float in [0, 1)
        Share of the steps in which it rises.
    start_factor : float > 0
        First learning rate, as a factor of lr.
    end_factor : float > 0
        Last learning rate, as a factor of lr.

    References
    ----------
    Smith & Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2019.

    Examples
    --------
    >>> schedule = OneCycle(0.1, steps=100)
    >>> [round(schedule(step), 7) for step in (0, 29, 99)]
    [0.004, 0.1, 4e-07]
    """

    lr: float
    steps: int
    rise: float = 0.3
    start_factor: float = 1 / 25
    end_factor: float = 1 / 250_000

    def __post_init__(self) -> None:
        fields(self, lr=positive, steps=count, rise=fraction)
        fields(self, start_factor=positive, end_factor=positive)

    @classmethod
    def for_run(cls, lr: float, steps: int) -> Self:
        return cls(lr, steps)

    def at(self, xp: Namespace, t: Array) -> Array:
        # Where the steps are too few for a rise, the cycle begins at its top.
        top = max(self.rise * self.steps - 1.0, 0.0)
        width = max(self.steps - 1.0 - top, 1.0)
        down = half_cosine(xp, self.lr, self.end_factor * self.lr, (t - top) / width)
        if top == 0.0:
            return down
        return xp.where(
            t < top, half_cosine(xp, self.start_factor * self.lr, self.lr, t / top), down
        )
