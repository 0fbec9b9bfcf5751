"""Tanh: the hyperbolic tangent.

    forward    y = tanh(x)
    backward   dx = dy (1 - y^2)

Saved: y.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Tanh(Layer):
    """Hyperbolic tangent, which maps every number of x into (-1, 1).

    References
    ----------
    LeCun, Bottou, Orr & Müller, "Efficient backprop", 1998, section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = Tanh().forward(None, np.asarray([-1.0, 2.0]))
    >>> y.round(4)
    array([-0.7616,  0.964 ])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        y = namespace(x).tanh(x)
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        check_dy(dy, y)
        return dy * (1.0 - y * y), {}
