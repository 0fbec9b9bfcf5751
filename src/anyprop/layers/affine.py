"""Affine: a matrix product and a shift.

    forward    y = x W + b                     x (N, D), W (D, M), b (M,), y (N, M)
    backward   dx = dy W^T
               dW = x^T dy
               db = sum_n dy_n

Saved: x, which dW needs. W is read again from the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anyprop._checks import check_rows, check_shape, count, fields, flag
from anyprop._numerics import matmul, summed
from anyprop._typing import Array, Grads, Residuals, Shape
from anyprop.layers.base import Layer, own
from anyprop.layout import Spec
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class Affine(Layer):
    """Affine map of each row, y = x W + b; a "dense" or "linear" layer elsewhere.

    Parameters
    ----------
    d : int >= 1
        Width of the input, D.
    m : int >= 1
        Width of the output, M.
    bias : bool
        Whether b is added. Leave it out before a BatchNorm, which subtracts it again.

    Raises
    ------
    TypeError, ValueError
        A size is not a whole number of at least 1, or bias is neither True nor False.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.6.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Affine(3, 2)
    >>> y, residuals = layer.forward(layer.init(seed=8), np.ones((5, 3), dtype=np.float32))
    >>> y.shape
    (5, 2)
    """

    d: int
    m: int
    bias: bool = True

    def __post_init__(self) -> None:
        fields(self, d=count, m=count, bias=flag)

    @property
    def width_in(self) -> int:
        return self.d

    def specs(self) -> Mapping[str, Spec]:
        W = {"W": Spec((self.d, self.m))}
        return W | {"b": Spec((self.m,), 0.0)} if self.bias else W

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], self.m)

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        check_rows("x", x, self.d)
        y = matmul(x, own(params, "W"))
        if self.bias:
            # In place where arrays can be: the product is an array of its own.
            y += own(params, "b")
        return y, x

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        grads = self.backward_params(params, residuals, dy)
        return matmul(dy, own(params, "W").T), grads

    def backward_params(self, params: Parameters, residuals: Residuals, dy: Array) -> Grads:
        x = residuals
        check_shape("dy", dy, (x.shape[0], self.m))
        # First: one loop can make dy and its sum.
        db = {"b": summed(dy, axis=0)} if self.bias else {}
        return {"W": matmul(x.T, dy)} | db
