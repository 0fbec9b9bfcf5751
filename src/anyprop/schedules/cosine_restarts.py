"""CosineRestarts: half a cosine, again and again.

cycle n has steps growth^n steps and begins at step s_n = steps (1 + growth + ... + growth^(n-1))
end + (lr - end) (1 + cos(pi (step - s_n) / (steps growth^n))) / 2          while s_n <= step < s_(n+1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anyprop._checks import count, fields, non_negative, positive
from anyprop._typing import Array, Namespace
from anyprop.schedules.base import Schedule, half_cosine


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Fall along half a cosine, return to the first learning rate, and fall again.

    Parameters
    ----------
    lr : float > 0
        Learning rate at the start of every cycle.
    steps : int >= 1
        Steps of the first cycle.
    growth : int >= 1
        Factor from the length of one cycle to that of the next.
    end : float >= 0
        Learning rate to which each cycle falls.

    References
    ----------
    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> schedule = CosineRestarts(0.1, steps=100, growth=2)
    >>> [round(schedule(step), 6) for step in (0, 50, 100, 200, 300)]
    [0.1, 0.05, 0.1, 0.05, 0.1]
    """

    lr: float
    steps: int
    growth: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        fields(self, lr=positive, steps=count, growth=count, end=non_negative)

    def at(self, xp: Namespace, t: Array) -> Array:
        if self.growth == 1:
            t = t - self.steps * xp.floor(t / self.steps)
            return half_cosine(xp, self.lr, self.end, t / self.steps)
        growth = float(self.growth)

        def start(n: Array) -> Array:
            return self.steps * ((xp.round(growth**n) - 1.0) / (growth - 1.0))

        # A logarithm is exact to rounding only: the number of the cycle is taken a little too large,
        # and corrected where that cycle has not begun.
        n = xp.floor(xp.log1p(t * ((growth - 1.0) / self.steps)) / math.log(growth) + 1e-3)
        n = xp.where(start(n) > t, n - 1.0, n)
        return half_cosine(
            xp, self.lr, self.end, (t - start(n)) / (self.steps * xp.round(growth**n))
        )
