"""MeanSquaredError: the mean of squared differences.

    forward    l = mean_k (y_k - t_k)^2
    backward   dy_k = 2 (y_k - t_k) s                              s = dvalue w_n / (K sum w)

Saved: y - t, the scale s of each row, and y for its dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
class MeanSquaredError(Loss):
    """Squared difference of predictions and targets, mean over all N K numbers.

    Notes
    -----
    Targets are real numbers (N, K), the shape of the predictions. The book's `sum_squared_error`,
    `mean_squared_error` in its first printings, is half the sum over k.

    References
    ----------
    Gauss, "Theoria combinationis observationum erroribus minimis obnoxiae", 1823.

    Examples
    --------
    >>> import numpy as np
    >>> loss = MeanSquaredError()
    >>> value, residuals = loss.forward(np.asarray([[1.0, 4.0]]), np.asarray([[1.0, 2.0]]))
    >>> float(value), loss.backward(residuals)
    (2.0, array([[0., 2.]]))
    """

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        xp, t = matched(y, t)
        difference = widened(xp, y) - t
        squares = difference * difference
        value, scale = mean_over_entries(xp, squares, sample_weight, dtype=y.dtype)
        return value, (difference, scale, y)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        difference, scale, y = residuals
        return gradient_of_rows(difference, 2.0 * scale, dvalue, like=y)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError unless all of t, of shape (N, `width`), is finite."""
        check_rows_of_targets(t, width)
