"""SiLU: the sigmoid linear unit, also called swish.

    forward    y = x s,  s = 1 / (1 + exp(-x))
    backward   dx = dy s (1 + x (1 - s))

Saved: x and s.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._numerics import sigmoid
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class SiLU(Layer):
    """Sigmoid linear unit, y = x sigmoid(x), on every number of x.

    References
    ----------
    Elfwing, Uchibe & Doya, "Sigmoid-weighted linear units for neural network function approximation
    in reinforcement learning", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = SiLU().forward(None, np.asarray([-1.0, 2.0]))
    >>> y.round(4)
    array([-0.2689,  1.7616])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        s = sigmoid(namespace(x), x)
        return x * s, (x, s)

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        x, s = residuals
        check_dy(dy, x)
        return dy * (s * (1.0 + x * (1.0 - s))), {}
