"""Identity: nothing at all.

    forward    y = x
    backward   dx = dy

Saved: the shape of x, to check dy.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import check_shape
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Identity(Layer):
    """The identity, y = x: the activation of a linear network.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = Identity().forward(None, np.asarray([-1.0, 2.0]))
    >>> y
    array([-1.,  2.])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        namespace(x)
        return x, x.shape

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        check_shape("dy", dy, residuals)
        return dy, {}
