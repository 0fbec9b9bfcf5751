"""Softplus: a smooth rectifier.

    forward    y = log(1 + exp(x))             computed as max(x, 0) + log(1 + exp(-|x|))
    backward   dx = dy (1 - exp(-y))

Saved: y. The derivative is the sigmoid of x, which equals 1 - exp(-y).
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._numerics import softplus
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Softplus(Layer):
    """Smooth rectifier, y = log(1 + exp(x)), on every number of x.

    References
    ----------
    Dugas, Bengio, Bélisle, Nadeau & Garcia, "Incorporating second-order functional knowledge for
    better option pricing", 2001.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = Softplus().forward(None, np.asarray([-1.0, 2.0]))
    >>> y.round(4)
    array([0.3133, 2.1269])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        y = softplus(namespace(x), x)
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        return dy * -check_dy(dy, y).expm1(-y), {}
