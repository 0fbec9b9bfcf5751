"""Softmax: positive numbers that sum to one.

    forward    y_k = exp(x_k - m) / sum_j exp(x_j - m),   m = max_j x_j
    backward   dx_k = y_k (dy_k - sum_j dy_j y_j)

k and j run over the last axis. Subtracting m keeps exp from overflowing. Saved: y.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._numerics import cast, largest, widened
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Softmax(Layer):
    """Softmax over the last axis: each row becomes a probability distribution.

    Notes
    -----
    As the last layer of a classifier it is part of the loss: `SoftmaxCrossEntropy` takes logits.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = Softmax().forward(None, np.asarray([[0.0, 0.0], [1000.0, 0.0]]))
    >>> y
    array([[0.5, 0.5],
           [1. , 0. ]])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        xp = namespace(x)
        wide = widened(xp, x)
        exp_z = xp.exp(wide - largest(wide))
        y = exp_z / xp.sum(exp_z, axis=-1, keepdims=True)
        y = cast(xp, y, x.dtype)
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        xp = check_dy(dy, y)
        wide, y = widened(xp, dy), widened(xp, y)
        dx = y * (wide - xp.sum(wide * y, axis=-1, keepdims=True))
        return cast(xp, dx, dy.dtype), {}
