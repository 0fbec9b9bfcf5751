"""Functions that several layers, losses and optimizers share, in forms that lose no digits."""

from __future__ import annotations

import math

from anyprop._checks import is_scalar_array
from anyprop._typing import Array, Namespace, Number
from anyprop.backend import namespace


def sigmoid(xp: Namespace, x: Array) -> Array:
    """Compute 1 / (1 + exp(-x)) as exp(min(x, 0)) / (1 + exp(-|x|)): no exponent is above 0."""
    return xp.exp(xp.minimum(x, 0.0)) / (1.0 + xp.exp(-xp.abs(x)))


def softplus(xp: Namespace, x: Array) -> Array:
    """Compute log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)): no exponent is above 0."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


def one_minus_power(beta: float, t: int | Number) -> Number:
    """Compute 1 - beta^t as -expm1(t log beta), exact to rounding where beta^t is close to 1.

    beta lies in [0, 1); t > 0 is an int, or a 0-d array of floating dtype, which the result is too.
    """
    if beta == 0.0:
        return 1.0
    expm1 = namespace(t).expm1 if is_scalar_array(t) else math.expm1
    return -expm1(t * math.log(beta))
