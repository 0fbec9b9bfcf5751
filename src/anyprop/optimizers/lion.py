"""Lion: steps of equal size, in the direction of a momentum's sign.

    p <- p - lr weight_decay p
    c  = beta1 m + (1 - beta1) g
    p <- p - lr sign(c)
    m <- beta2 m + (1 - beta2) g

Each step moves every parameter by lr or not at all, so lr is 3 to 10 times smaller than Adam's and
weight_decay as many times larger.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from anyprop._checks import fields, fraction
from anyprop._typing import Namespace, Rule
from anyprop.optimizers.base import Optimizer


@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion, sign descent with interpolated momentum and decoupled weight decay.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    beta1 : float in [0, 1)
        Weight of m against g in the direction c.
    beta2 : float in [0, 1)
        Decay of the running mean m.
    weight_decay : float >= 0
        Shrinks p by the factor 1 - lr weight_decay before each step.
    **common
        `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see `Optimizer`.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = Lion(lr=0.1, weight_decay=0.0), np.asarray([1.0, 0.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p
    array([ 0.9,  0. , -1.9])
    """

    lr: Any = 1e-4
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1e-3

    decoupled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, beta1=fraction, beta2=fraction)

    def slots(self) -> dict[str, float | None]:
        return {"m": 0.0}

    def rule(self, xp: Namespace) -> Rule:
        where = xp.where
        beta1, one_minus_beta1 = self.beta1, 1.0 - self.beta1
        beta2, one_minus_beta2 = self.beta2, 1.0 - self.beta2

        def rule(p, g, m, lr):  # type: ignore[no-untyped-def]
            c = beta1 * m + one_minus_beta1 * g
            p = where(c > 0.0, p - lr, where(c < 0.0, p + lr, p))
            return p, beta2 * m + one_minus_beta2 * g

        return rule
