"""ReLU: the rectified linear unit.

    forward    y = max(x, 0)
    backward   dx = dy [y > 0]

Saved: y, which the next layer keeps anyway; y > 0 says the same as x > 0. At x = 0, where there is no
derivative, 0 is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._numerics import cast
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class ReLU(Layer):
    """Rectified linear unit, y = max(x, 0), on every number of x.

    References
    ----------
    Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = ReLU().forward(None, np.asarray([-1.0, 2.0]))
    >>> y
    array([0., 2.])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        y = namespace(x).maximum(x, 0.0)
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        xp = check_dy(dy, y)
        # times 0 or 1, not where(): equal for every finite dy, and an infinite one becomes NaN
        return dy * cast(xp, y > 0.0, dy.dtype), {}
