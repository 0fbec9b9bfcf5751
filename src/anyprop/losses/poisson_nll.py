"""PoissonNLL: the negative log-likelihood of counts.

    forward    l = mean_k (exp(y_k) - t_k y_k)                     rate exp(y), without log t!
               l + mean_k (t_k log t_k - t_k)                      deviance
    backward   dy_k = (exp(y_k) - t_k) s                           s = dvalue w_n / (K sum w)

y are logarithms of rates, so every real number is a valid prediction. log t! depends on the targets
alone and is left out. A target of 0 leaves exp(y) alone, also where y is -inf.

Saved: exp(y) - t, the scale s of each row, and y for its dtype.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from anyprop._checks import fields, flag
from anyprop._numerics import largest_of, product, widened
from anyprop._typing import Array, Namespace, Residuals
from anyprop.losses.base import (
    Loss,
    check_rows_of_targets,
    gradient_of_rows,
    matched,
    mean_over_entries,
)


@dataclass(frozen=True)
class PoissonNLL(Loss):
    """Negative log-likelihood of Poisson counts given log rates, mean over all N K numbers.

    Parameters
    ----------
    deviance : bool
        Whether the value is half the Poisson deviance, which is 0 where exp(y) = t.

    Raises
    ------
    TypeError
        deviance is neither True nor False.

    Notes
    -----
    Targets are counts (N, K), the shape of the predictions; fractions are allowed. A log rate above
    log(largest number / 1e6), 74.9 in float32 and narrower dtypes and 696.0 in float64, makes
    the value infinite.

    References
    ----------
    Nelder & Wedderburn, "Generalized linear models", 1972.

    Examples
    --------
    >>> import numpy as np
    >>> loss = PoissonNLL()
    >>> value, residuals = loss.forward(np.asarray([[0.0]]), np.asarray([[3.0]]))
    >>> float(value), loss.backward(residuals)
    (1.0, array([[-2.]]))
    """

    deviance: bool = False

    def __post_init__(self) -> None:
        fields(self, deviance=flag)

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        xp, t = matched(y, t)
        wide = widened(xp, y)
        largest = _largest(xp, wide)
        held = xp.minimum(wide, largest)
        rate = xp.where(wide > largest, math.inf, xp.exp(held))
        entries = rate - product(xp, t, held)
        if self.deviance:
            # t log t is 0 where t is: log of the tiniest number keeps that product from NaN.
            entries = entries + (
                t * xp.log(xp.maximum(t, float(xp.finfo(t.dtype).smallest_normal))) - t
            )
        value, scale = mean_over_entries(xp, entries, sample_weight, dtype=y.dtype)
        return value, (rate - t, scale, y)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        difference, scale, y = residuals
        return gradient_of_rows(difference, scale, dvalue, like=y)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError unless all of t, of shape (N, `width`), is finite and at least 0."""
        check_rows_of_targets(t, width, low=0.0)


def _largest(xp: Namespace, y: Array) -> float:
    """Return the largest log rate; an overflow of exp would be infinite as well, but NumPy warns."""
    return math.log(largest_of(xp, y.dtype)) - math.log(1e6)
