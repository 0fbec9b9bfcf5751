"""ELU: the exponential linear unit.

    forward    y = max(x, 0) + alpha (exp(min(x, 0)) - 1)
    backward   dx = dy (min(y, 0) + alpha + (1 - alpha) [y > 0])

Saved: y. Below zero the derivative is alpha exp(x) = y + alpha, so no exponential is taken again. At
x = 0, where alpha != 1 leaves no derivative, alpha is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import fields, positive
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class ELU(Layer):
    """Exponential linear unit: x above zero, alpha (exp(x) - 1) below, on every number of x.

    Parameters
    ----------
    alpha : float > 0
        Distance of the lower asymptote from zero.

    Raises
    ------
    TypeError, ValueError
        alpha is not a number above 0.

    References
    ----------
    Clevert, Unterthiner & Hochreiter, "Fast and accurate deep network learning by exponential linear
    units (ELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = ELU().forward(None, np.asarray([-1.0, 2.0]))
    >>> y.round(4)
    array([-0.6321,  2.    ])
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        fields(self, alpha=positive)

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        xp = namespace(x)
        y = xp.maximum(x, 0.0) + self.alpha * xp.expm1(xp.minimum(x, 0.0))
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        xp = check_dy(dy, y)
        above = xp.astype(y > 0.0, dy.dtype)
        return dy * (xp.minimum(y, 0.0) + self.alpha + (1.0 - self.alpha) * above), {}
