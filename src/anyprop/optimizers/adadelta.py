"""AdaDelta: RMSProp whose numerator is the root mean square of its own steps.

    h <- rho h + (1 - rho) g^2
    u  = g sqrt(d + eps) / sqrt(h + eps)
    d <- rho d + (1 - rho) u^2
    p <- p - lr u

u has the unit of p, so lr is a plain factor. d starts at 0: the first steps are about sqrt(eps).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from anyprop._checks import fields, fraction, positive
from anyprop._typing import Namespace, Rule
from anyprop.optimizers.base import Optimizer


@dataclass(frozen=True)
class AdaDelta(Optimizer):
    """AdaDelta, an adaptive method that sets the size of its own steps.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Factor on each step.
    rho : float in [0, 1)
        Decay of both running means.
    eps : float > 0
        Keeps the division from 0, and sets the size of the first steps.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = AdaDelta(), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4)  # both move by sqrt(eps / (1 - rho))
    array([ 0.9968, -1.9968])
    """

    lr: Any = 1.0
    _: KW_ONLY
    rho: float = 0.9
    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, rho=fraction, eps=positive)

    def slots(self) -> dict[str, float | None]:
        return {"h": 0.0, "d": 0.0}

    def rule(self, xp: Namespace) -> Rule:
        sqrt, rho, one_minus_rho, eps = xp.sqrt, self.rho, 1.0 - self.rho, self.eps

        def rule(p, g, h, d, lr):  # type: ignore[no-untyped-def]
            h = rho * h + one_minus_rho * g * g
            u = g * sqrt(d + eps) / sqrt(h + eps)
            d = rho * d + one_minus_rho * u * u
            return p - lr * u, h, d

        return rule
