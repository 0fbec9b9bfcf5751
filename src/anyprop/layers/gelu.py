"""GELU: the Gaussian error linear unit, in its tanh form.

    forward    h = tanh(c (x + a x^3)),  c = sqrt(2 / pi),  a = 0.044715
               y = x (1 + h) / 2
    backward   dx = dy ((1 + h) + x (1 - h^2) c (1 + 3 a x^2)) / 2

The exact unit is x times the normal distribution function, which needs erf; the Array API standard
has none, so this is the approximation given by its authors, within 0.0005 of it everywhere.

Saved: h, and u, which is x held within [-10, 10]. Beyond, h is 1 or -1 to the last digit, and no power
of u overflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy
from anyprop.parameters import Parameters

C = math.sqrt(2.0 / math.pi)
CA = C * 0.044715


@dataclass(frozen=True)
class GELU(Layer):
    """Gaussian error linear unit in its tanh form, on every number of x.

    y = x (1 + tanh(c (x + 0.044715 x^3))) / 2 with c = sqrt(2 / pi).

    References
    ----------
    Hendrycks & Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> y, residuals = GELU().forward(None, np.asarray([-1.0, 2.0]))
    >>> y.round(4)
    array([-0.1588,  1.9546])
    """

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        xp = namespace(x)
        u = xp.minimum(xp.maximum(x, -10.0), 10.0)
        h = xp.tanh(u * (C + CA * (u * u)))
        return 0.5 * x * (1.0 + h), (u, h)

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        u, h = residuals
        check_dy(dy, u)
        slope = (1.0 - h * h) * (C + (3.0 * CA) * (u * u))
        return dy * (0.5 * ((1.0 + h) + u * slope)), {}
