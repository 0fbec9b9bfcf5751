"""MeanSquaredError: the mean of squared differences.

    forward    l = mean_k (y_k - t_k)^2
    backward   dy_k = 2 (y_k - t_k) s                              s = dvalue w_n / (K sum w)

Saved: y - t and the scale s of each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyprop._typing import Array, Residuals
from anyprop.losses.base import Loss, check_rows_of_targets, matched, mean_over_entries


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Squared difference of predictions and targets, mean over all N K numbers.

    Notes
    -----
    Targets are real numbers (N, K), the shape of the predictions. The book's `mean_squared_error` is
    half the sum over k.

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
        difference = y - t
        value, scale = mean_over_entries(xp, difference * difference, sample_weight)
        return value, (difference, scale)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        difference, scale = residuals
        return difference * (2.0 * scale * dvalue)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError unless all of t, of shape (N, `width`), is finite."""
        check_rows_of_targets(t, width)
