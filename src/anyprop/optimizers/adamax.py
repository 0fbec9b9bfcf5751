"""Adamax: Adam with the largest recent gradient in place of the root mean square.

    m <- beta1 m + (1 - beta1) g              m^ = m / (1 - beta1^t)
    u <- max(beta2 u, |g| + eps)
    p <- p - lr m^ / u

u needs no correction: a maximum does not lean towards its start at 0.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from anyprop._numerics import one_minus_power
from anyprop._typing import Namespace, Number, Rule
from anyprop.optimizers.adam import Moments


@dataclass(frozen=True)
class Adamax(Moments):
    """Adamax, the variant of Adam with the infinity norm.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate, and the largest step while gradients do not grow.
    beta1 : float in [0, 1)
        Decay of the running mean m.
    beta2 : float in [0, 1)
        Decay of the maximum u.
    eps : float > 0
        Keeps the division from 0.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", 2015, section 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = Adamax(lr=0.1), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4)
    array([ 0.9, -1.9])
    """

    lr: Any = 2e-3
    _: KW_ONLY

    def slots(self) -> dict[str, float | None]:
        return {"m": 0.0, "u": 0.0}

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        return {"lr": lr / one_minus_power(self.beta1, t)}

    def rule(self, xp: Namespace) -> Rule:
        maximum, absolute, eps = xp.maximum, xp.abs, self.eps
        beta1, one_minus_beta1, beta2, _ = self._decays

        def rule(p, g, m, u, lr):  # type: ignore[no-untyped-def]
            m = beta1 * m + one_minus_beta1 * g
            u = maximum(beta2 * u, absolute(g) + eps)
            return p - lr * m / u, m, u

        return rule
