"""Dropout: noise that keeps units from relying on one another.

    training    y = x mask / (1 - rate),   mask = [u >= rate],  u ~ U(0, 1)
                dx = dy mask / (1 - rate)
    inference   y = x                      the division above has kept the expectation equal

The mask is drawn on the host and passed in, so it is the same on every backend and a step stays a
function of its arguments. Saved: the shape of x, to check dy, and the scaled mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop._checks import check_shape, fields, fraction
from anyprop._typing import Array, Grads, Residuals, Shape
from anyprop.backend import namespace
from anyprop.layers.base import Layer
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Dropout(Layer):
    """Set each number to zero with probability `rate` while training, and scale up the rest.

    Parameters
    ----------
    rate : float in [0, 1)
        Probability that a number is dropped.

    Raises
    ------
    TypeError, ValueError
        rate is not a number in [0, 1).

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout: a simple way to prevent
    neural networks from overfitting", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> layer, x = Dropout(0.5), np.ones((1, 4))
    >>> mask = layer.noise(np.random.default_rng(0), x.shape)
    >>> layer.forward_train(None, x, mask)[0]
    array([[2., 2., 2., 0.]])
    >>> layer.forward(None, x)[0]
    array([[1., 1., 1., 1.]])
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        fields(self, rate=fraction)

    def noise(self, rng: np.random.Generator, shape: Shape) -> Any:
        return rng.random(shape, dtype=np.float32) >= self.rate

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        namespace(x)
        return x, (x.shape, None)

    def forward_train(self, params: Parameters, x: Array, noise: Any) -> tuple[Array, Residuals]:
        if noise is None:
            raise ValueError("Dropout trains with a mask; draw it by noise(rng, x.shape).")
        check_shape("the mask", noise, x.shape)
        xp = namespace(x, noise)
        mask = xp.astype(noise, x.dtype) * (1.0 / (1.0 - self.rate))
        return x * mask, (x.shape, mask)

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        shape, mask = residuals
        check_shape("dy", dy, shape)
        if mask is None:
            return dy, {}
        namespace(dy, mask)
        return dy * mask, {}
