"""SigmoidCrossEntropy: the negative log-likelihood of several yes-or-no labels.

    forward    p = 1 / (1 + exp(-y))
               l = mean_k (- t_k log p_k - (1 - t_k) log(1 - p_k))
                 = mean_k (|y_k| q_k + log(1 + exp(-|y_k|))),   q_k = 1 - t_k if y_k > 0 else t_k
    backward   dy_k = (p_k - t_k) s                                s = dvalue w_n / (K sum w)

y are logits (N, K), one for each label. The second form takes no logarithm of a probability and no
exponential of a positive number, and stays exact where p is close to t. Where q is 0, an infinite
logit costs nothing.

Saved: y, t and the scale s of each row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyprop._numerics import product, sigmoid, widened
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
class SigmoidCrossEntropy(Loss):
    """Cross entropy between sigmoid(y) and labels that do not exclude one another, in nats.

    The mean is taken over all N K numbers.

    Notes
    -----
    Targets are 0 and 1, or probabilities between them, (N, K).

    References
    ----------
    Cox, "The regression analysis of binary sequences", 1958.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SigmoidCrossEntropy()
    >>> value, residuals = loss.forward(np.asarray([[0.0, 0.0]]), np.asarray([[1, 0]]))
    >>> round(float(value), 6), loss.backward(residuals)  # log 2
    (0.693147, array([[-0.25,  0.25]]))
    """

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        xp, t = matched(y, t)
        wide = widened(xp, y)
        size, wrong = xp.abs(wide), xp.where(wide > 0.0, 1.0 - t, t)
        entries = product(xp, wrong, size) + xp.log1p(xp.exp(-size))
        value, scale = mean_over_entries(xp, entries, sample_weight, dtype=y.dtype)
        return value, (y, t, scale)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        y, t, scale = residuals
        xp = namespace(y)
        slope = sigmoid(xp, widened(xp, y)) - t
        return gradient_of_rows(slope, scale, dvalue, like=y)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError unless all of t, of shape (N, `width`), is in [0, 1]."""
        check_rows_of_targets(t, width, low=0.0, high=1.0)

    def correct(self, y: Array, t: Array) -> Array:
        """Return for each row whether all its labels are right: p > 1/2 where t > 1/2.

        Parameters
        ----------
        y : array, shape (N, K), float
            Logits.
        t : array, shape (N, K)
            Targets.

        Returns
        -------
        array, shape (N,), bool
        """
        xp, t = matched(y, t)
        return xp.all((y > 0.0) == (t > 0.5), axis=1)
