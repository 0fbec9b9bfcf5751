"""Affine that keeps its arrays, its input and its gradients."""

from __future__ import annotations

import math
from typing import Any

from anyprop._checks import check_rows, check_shape
from anyprop._typing import Array, Residuals, Shape
from anyprop.backend import check_array, namespace
from anyprop.book.holding import Held, HoldsArrays
from anyprop.layers import affine


class Affine(HoldsArrays):
    """Affine map y = x W + b that remembers x, dW and db.

    Parameters
    ----------
    W : array, shape (D, M), float
        Weights.
    b : array, shape (M,), float
        Shift.

    Attributes
    ----------
    x : array, shape (N, D), or None
        What `forward` saw last, as rows.
    dW, db : array or None
        Gradients with respect to W and b, of their shapes; None before the first `backward`.

    Raises
    ------
    TypeError, ValueError
        W or b is not an array, or the shapes do not fit.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.6.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Affine(np.ones((3, 2)), np.zeros(2))
    >>> layer.forward(np.asarray([[1.0, 2.0, 3.0]]))
    array([[6., 6.]])
    >>> layer.backward(np.asarray([[1.0, 0.0]])), layer.db
    (array([[1., 1., 1.]]), array([1., 0.]))
    """

    W, b = Held(), Held()

    def __init__(self, W: Array, b: Array) -> None:
        _layer(W, b)
        self.arrays = {"W": W, "b": b}
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None
        self._shape: Shape = ()

    def forward(self, x: Array) -> Array:
        """Compute y, (N, M), from x, (N, D), or (N, ...) with D numbers for each example."""
        arrays: Any = self  # the layer looks for W and b, and here they are
        layer, rows = _layer(self.W, self.b), as_rows(x)
        if rows.shape[1] != layer.d:
            check_rows("x", x, layer.d)  # under the shape that it came in
        y, rows = layer.forward(arrays, rows)
        self.x, self._shape = rows, x.shape
        return y

    def backward(self, dout: Array) -> Array:
        """Compute dx, of the shape of x, from `dout`, (N, M), and store dW and db."""
        arrays: Any = self
        dx, grads = _layer(self.W, self.b).backward(arrays, kept(self, self.x), dout)
        self.dW, self.db = grads["W"], grads["b"]
        return namespace(dx).reshape(dx, self._shape)


def _layer(W: Array, b: Array) -> affine.Affine:
    """Return the layer of two arrays, which may have been put in the place of others by hand."""
    check_array("W", W)
    check_array("b", b)
    if W.ndim != 2:
        raise ValueError(f"W has shape {tuple(W.shape)}, expected (D, M).")
    check_shape("b", b, (W.shape[1],))
    return affine.Affine(*W.shape)


def as_rows(x: Array) -> Array:
    """Reshape x to one row for each example, (N, D)."""
    check_array("x", x)
    if not x.ndim:
        raise ValueError("x has shape (), expected (N, ...): one entry per example.")
    if x.ndim == 2:
        return x
    return namespace(x).reshape(x, (x.shape[0], math.prod(x.shape[1:])))


def kept(layer: object, residuals: Residuals) -> Residuals:
    """Return what `forward` kept; RuntimeError if there was none."""
    if residuals is None:
        raise RuntimeError(f"{type(layer).__name__}: call forward before backward.")
    return residuals
