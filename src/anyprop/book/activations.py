"""Activations that keep what their backward pass needs."""

from __future__ import annotations

from typing import Any

from anyprop._typing import Array, Residuals
from anyprop.book.affine import kept
from anyprop.layers import relu, sigmoid

_NO_ARRAYS: Any = None


class ReLU:
    """Rectified linear unit, y = max(x, 0), that remembers where x <= 0; the book writes `Relu`.

    Attributes
    ----------
    mask : array of bool, or None
        Where x <= 0, of the shape of x; None before the first `forward`.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.5.

    Examples
    --------
    >>> import numpy as np
    >>> layer = ReLU()
    >>> layer.forward(np.asarray([-1.0, 2.0])), layer.mask
    (array([0., 2.]), array([ True, False]))
    >>> layer.backward(np.asarray([5.0, 5.0]))
    array([0., 5.])
    """

    def __init__(self) -> None:
        self._residuals: Residuals = None

    @property
    def mask(self) -> Array | None:
        return None if self._residuals is None else self._residuals <= 0.0

    def forward(self, x: Array) -> Array:
        """Compute y from x, of any shape."""
        y, self._residuals = relu.ReLU().forward(_NO_ARRAYS, x)
        return y

    def backward(self, dout: Array) -> Array:
        """Compute dx from `dout`, of the same shape."""
        return relu.ReLU().backward(_NO_ARRAYS, kept(self, self._residuals), dout)[0]


Relu = ReLU


class Sigmoid:
    """Logistic function, y = 1 / (1 + exp(-x)), that remembers y.

    Attributes
    ----------
    out : array, or None
        y; None before the first `forward`.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.5.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Sigmoid()
    >>> layer.forward(np.asarray([0.0])), layer.backward(np.asarray([1.0]))
    (array([0.5]), array([0.25]))
    """

    def __init__(self) -> None:
        self.out: Array | None = None

    def forward(self, x: Array) -> Array:
        """Compute y from x, of any shape."""
        self.out, _ = sigmoid.Sigmoid().forward(_NO_ARRAYS, x)
        return self.out

    def backward(self, dout: Array) -> Array:
        """Compute dx from `dout`, of the same shape."""
        return sigmoid.Sigmoid().backward(_NO_ARRAYS, kept(self, self.out), dout)[0]
