"""Huber: squared for small differences, absolute for large ones.

    forward    d = y - t,  c = min(max(d, -delta), delta)
               l = mean_k c_k (d_k - c_k / 2)                      d^2 / 2, or delta (|d| - delta / 2)
    backward   dy_k = c_k s                                        s = dvalue w_n / (K sum w)

Saved: c, the scale s of each row, and y for its dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyprop._checks import fields, positive
from anyprop._numerics import widened
from anyprop._typing import Array, Residuals
from anyprop.losses.base import (
    Loss,
    check_rows_of_targets,
    gradient_of_rows,
    matched,
    mean_over_entries,
)


@dataclass(frozen=True)
class Huber(Loss):
    """Half the squared difference up to delta and linear beyond it, mean over all N K numbers.

    Parameters
    ----------
    delta : float > 0
        Difference beyond which the loss grows linearly, in the unit of the targets.

    Raises
    ------
    TypeError, ValueError
        delta is not a number above 0.

    Notes
    -----
    Targets are real numbers (N, K), the shape of the predictions.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> loss = Huber()
    >>> value, residuals = loss.forward(np.asarray([[1.5, 4.0]]), np.asarray([[1.0, 2.0]]))
    >>> float(value), loss.backward(residuals)  # (0.125 + 1.5) / 2
    (0.8125, array([[0.25, 0.5 ]]))
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        fields(self, delta=positive)

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        xp, t = matched(y, t)
        difference = widened(xp, y) - t
        clipped = xp.minimum(xp.maximum(difference, -self.delta), self.delta)
        entries = clipped * (difference - 0.5 * clipped)
        value, scale = mean_over_entries(xp, entries, sample_weight, dtype=y.dtype)
        return value, (clipped, scale, y)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        clipped, scale, y = residuals
        return gradient_of_rows(clipped, scale, dvalue, like=y)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError unless all of t, of shape (N, `width`), is finite."""
        check_rows_of_targets(t, width)
