"""MeanAbsoluteError: the mean of absolute differences.

    forward    l = mean_k |y_k - t_k|
    backward   dy_k = sign(y_k - t_k) s                            s = dvalue w_n / (K sum w)

Saved: y - t, the scale s of each row, and y for its dtype. At y = t, where there is no derivative, 0
is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyprop._numerics import widened
from anyprop._typing import Array, Residuals
from anyprop.backend import namespace
from anyprop.losses.base import (
    Loss,
    check_rows_of_targets,
    gradient_of_rows,
    matched,
    mean_over_entries,
)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Absolute difference of predictions and targets, mean over all N K numbers.

    Notes
    -----
    Targets are real numbers (N, K), the shape of the predictions. The best constant prediction is
    their median, which outliers hardly move.

    References
    ----------
    Laplace, "Mémoire sur la probabilité des causes par les événements", 1774.

    Examples
    --------
    >>> import numpy as np
    >>> loss = MeanAbsoluteError()
    >>> value, residuals = loss.forward(np.asarray([[1.0, 4.0]]), np.asarray([[1.0, 2.0]]))
    >>> float(value), loss.backward(residuals)
    (1.0, array([[0. , 0.5]]))
    """

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        xp, t = matched(y, t)
        difference = widened(xp, y) - t
        value, scale = mean_over_entries(xp, xp.abs(difference), sample_weight, dtype=y.dtype)
        return value, (difference, scale, y)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        difference, scale, y = residuals
        sign = namespace(difference).sign(difference)
        return gradient_of_rows(sign, scale, dvalue, like=y)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError unless all of t, of shape (N, `width`), is finite."""
        check_rows_of_targets(t, width)
