"""AMSGrad: Adam whose denominator never falls.

    m <- beta1 m + (1 - beta1) g              m^ = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2
    w <- max(w, v)                            w^ = w / (1 - beta2^t)
    p <- p - lr m^ / (sqrt(w^) + eps)

The maximum is taken before the correction, as in PyTorch; the paper has no corrections.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._typing import Namespace, Rule
from anyprop.optimizers.adam import Adam


@dataclass(frozen=True)
class AMSGrad(Adam):
    """AMSGrad, the variant of Adam that is proven to converge on convex problems.

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
    eps_before_correction : bool
        Whether eps is added before the correction, see `Adam`.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Reddi, Kale & Kumar, "On the convergence of Adam and beyond", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = AMSGrad(lr=0.1), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4)
    array([ 0.9, -1.9])
    """

    def slots(self) -> dict[str, float | None]:
        return {"m": 0.0, "v": 0.0, "w": 0.0}

    def rule(self, xp: Namespace) -> Rule:
        sqrt, maximum = xp.sqrt, xp.maximum
        beta1, one_minus_beta1, beta2, one_minus_beta2 = self._decays

        def rule(p, g, m, v, w, lr, root_correction, eps):  # type: ignore[no-untyped-def]
            m = beta1 * m + one_minus_beta1 * g
            v = beta2 * v + one_minus_beta2 * g * g
            w = maximum(w, v)
            return p - lr * m / (sqrt(w) * root_correction + eps), m, v, w

        return rule
