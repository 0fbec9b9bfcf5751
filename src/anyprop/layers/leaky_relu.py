"""LeakyReLU: a rectifier that lets a little through below zero.

    forward    y = max(x, slope x)
    backward   dx = dy (slope + (1 - slope) [y > 0])

Saved: y, which has the sign of x. At x = 0, where there is no derivative, slope is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import fields, fraction
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """Rectifier with a slope below zero, y = max(x, slope x), on every number of x.

    Parameters
    ----------
    slope : float in [0, 1)
        Derivative for negative x.

    Raises
    ------
    TypeError, ValueError
        slope is not a number in [0, 1).

    References
    ----------
    Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = LeakyReLU(0.1).forward(None, np.asarray([-1.0, 2.0]))
    >>> y
    array([-0.1,  2. ])
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        fields(self, slope=fraction)

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        y = namespace(x).maximum(x, self.slope * x)
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        xp = check_dy(dy, y)
        return dy * (self.slope + (1.0 - self.slope) * xp.astype(y > 0.0, dy.dtype)), {}
