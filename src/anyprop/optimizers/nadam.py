"""NAdam: Adam with Nesterov's look ahead.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2)             M_t = mu_1 mu_2 ... mu_t
    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2                             v^  = v / (1 - beta2^t)
    m^ = (1 - mu_t) / (1 - M_t) g + mu_(t+1) / (1 - M_(t+1)) m
    p <- p - lr m^ / (sqrt(v^) + eps)

M_t depends on t alone, and has a closed form, so nothing needs to be carried from step to step. With
q = 0.96^momentum_decay and log(1 - x) = -sum_k x^k / k,

    log M_t = t log beta1 + sum_{i=1..t} log(1 - q^i / 2)
            = t log beta1 - sum_{k>=1} (1/2)^k / k  q^k (1 - q^(k t)) / (1 - q^k)

whose terms fall by half each: 54 of them are exact to rounding in float64.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from anyprop._checks import fields, is_scalar_array, non_negative
from anyprop._numerics import one_minus_power
from anyprop._typing import Array, Namespace, Number, Rule
from anyprop.backend import device_of, dtype_name, from_host, namespace
from anyprop.optimizers.adam import Moments


@dataclass(frozen=True)
class NAdam(Moments):
    """Adam with Nesterov momentum whose strength rises from beta1 / 2 to beta1.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    beta1 : float in [0, 1)
        Decay of the running mean m.
    beta2 : float in [0, 1)
        Decay of the running mean v.
    eps : float > 0
        Keeps the division from 0.
    momentum_decay : float >= 0
        How fast the momentum rises; 0 keeps it at beta1 / 2.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = NAdam(lr=0.1), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4)
    array([ 0.8944, -1.8944])
    """

    lr: Any = 2e-3
    _: KW_ONLY
    momentum_decay: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, momentum_decay=non_negative)

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        return {
            "lr_g": lr * (1.0 - self._mu(t)) / (1.0 - self._product(t)),
            "lr_m": lr * self._mu(t + 1) / (1.0 - self._product(t + 1)),
            "root_correction": one_minus_power(self.beta2, t) ** -0.5,
        }

    def _mu(self, t: int | Number) -> Number:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _product(self, t: int | Number) -> Number:
        """Compute M_t = mu_1 ... mu_t from t alone."""
        rate = -self.momentum_decay * math.log(0.96)
        if rate == 0.0:
            return (0.5 * self.beta1) ** t
        k: Array = np.arange(1.0, 55.0)
        if is_scalar_array(t):
            k = from_host(k, namespace(t), dtype=dtype_name(t), device=device_of(t))
        xp = namespace(k)
        a = -rate * k
        series = xp.sum(0.5**k / k * xp.exp(a) * xp.expm1(a * t) / xp.expm1(a))
        product = self.beta1**t * xp.exp(-series)
        return product if is_scalar_array(t) else float(product)

    def rule(self, xp: Namespace) -> Rule:
        sqrt, eps = xp.sqrt, self.eps
        beta1, one_minus_beta1, beta2, one_minus_beta2 = self._decays

        def rule(p, g, m, v, lr_g, lr_m, root_correction):  # type: ignore[no-untyped-def]
            m = beta1 * m + one_minus_beta1 * g
            v = beta2 * v + one_minus_beta2 * g * g
            return p - (lr_g * g + lr_m * m) / (sqrt(v) * root_correction + eps), m, v

        return rule
