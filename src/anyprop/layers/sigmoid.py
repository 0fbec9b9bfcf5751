"""Sigmoid: the logistic function.

    forward    y = 1 / (1 + exp(-x))           computed as exp(min(x, 0)) / (1 + exp(-|x|))
    backward   dx = dy y (1 - y)

Saved: y.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._numerics import sigmoid
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Sigmoid(Layer):
    """Logistic function, y = 1 / (1 + exp(-x)), which maps every number of x into (0, 1).

    Notes
    -----
    As the last layer of a classifier it is part of the loss: `SigmoidCrossEntropy` takes logits.

    References
    ----------
    Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", 1986.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = Sigmoid().forward(None, np.asarray([-1000.0, 0.0, 2.0]))
    >>> y.round(4)
    array([0.    , 0.5   , 0.8808])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        y = sigmoid(namespace(x), x)
        return y, y

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        y = residuals
        check_dy(dy, y)
        return dy * (y * (1.0 - y)), {}
