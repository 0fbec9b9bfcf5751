"""LayerNorm: each row standardized over its features.

    forward    mu = mean_d x_d,  v = mean_d (x_d - mu)^2          for each row
               z = (x - mu) / sqrt(v + eps)
               y = gamma z + beta
    backward   dgamma = sum_n dy_n z_n,  dbeta = sum_n dy_n,  dz = dy gamma
               dx = (dz - mean_d dz_d - z mean_d (dz_d z_d)) / sqrt(v + eps)

v is the sum of the squares of (x - mu) / sqrt(D), which do not overflow where v does not. In 16
bits everything is computed in float32, and y and the gradients are rounded.

Saved: z and 1 / sqrt(v + eps).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anyprop._checks import check_rows, count, fields, positive
from anyprop._numerics import cast, widened
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy, own
from anyprop.layout import Spec
from anyprop.parameters import Parameters


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Standardize each row over its features, then scale and shift every feature.

    Parameters
    ----------
    d : int >= 1
        Features, D.
    eps : float > 0
        Added to the variance.

    Raises
    ------
    TypeError, ValueError
        d is not a whole number of at least 1, or eps is not a number above 0.

    References
    ----------
    Ba, Kiros & Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> layer = LayerNorm(2)
    >>> y, residuals = layer.forward(layer.init(dtype="float64"), np.asarray([[1.0, 3.0]]))
    >>> y.round(3)
    array([[-1.,  1.]])
    """

    d: int
    eps: float = 1e-5

    def __post_init__(self) -> None:
        fields(self, d=count, eps=positive)

    @property
    def width_in(self) -> int:
        return self.d

    def specs(self) -> Mapping[str, Spec]:
        return {"gamma": Spec((self.d,), 1.0), "beta": Spec((self.d,), 0.0)}

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        check_rows("x", x, self.d)
        xp = namespace(x, own(params, "gamma"))
        wide = widened(xp, x)
        centred = wide - xp.mean(wide, axis=1, keepdims=True)
        scaled = centred * self.d**-0.5
        v = xp.sum(scaled * scaled, axis=1, keepdims=True)
        inverse_std = 1.0 / xp.sqrt(v + self.eps)
        z = centred * inverse_std
        y = params.gamma * z + params.beta
        return cast(xp, y, x.dtype), (z, inverse_std)

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        z, inverse_std = residuals
        xp = check_dy(dy, z)
        wide = widened(xp, dy)
        dz = wide * params.gamma
        mean_dz = xp.mean(dz, axis=1, keepdims=True)
        dx = (dz - mean_dz - z * xp.mean(dz * z, axis=1, keepdims=True)) * inverse_std
        grads = {"gamma": xp.sum(wide * z, axis=0), "beta": xp.sum(wide, axis=0)}
        grads = {name: cast(xp, g, dy.dtype) for name, g in grads.items()}
        return cast(xp, dx, dy.dtype), grads
