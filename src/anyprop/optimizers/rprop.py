"""Rprop: every parameter has a step size of its own, which grows while its gradient keeps its sign.

    s  = sign(g) prev                         prev: the gradient of the step before, 0 at first
    d <- d eta_plus    where s > 0            at most step_max
    d <- d eta_minus   where s < 0            at least step_min; there also g <- 0
    p <- p - d sign(g)
    prev <- g

Only signs count, so the gradients must be those of all the data: over small batches a sign says little.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from anyprop._checks import fields, positive
from anyprop._typing import Namespace, Number, Rule
from anyprop.optimizers.base import Optimizer


@dataclass(frozen=True)
class Rprop(Optimizer):
    """Resilient backpropagation, for gradients over all the data.

    Parameters
    ----------
    lr : float > 0
        What the step sizes d start from. No schedule: after the start each d goes its own way.
    eta_minus : float in (0, 1)
        Factor on d after a change of sign.
    eta_plus : float > 1
        Factor on d while the sign stays.
    step_min : float > 0
        Smallest d.
    step_max : float > step_min
        Largest d.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP
    algorithm", 1993.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = Rprop(lr=0.1), np.asarray([1.0, -200.0])
    >>> state = opt.init(p)
    >>> for _ in range(2):
    ...     p, state = opt.update(p, 2.0 * p, state)
    >>> p.round(4), state.slots["d"].round(4)  # 0.1, then 0.12
    (array([   0.78, -199.78]), array([0.12, 0.12]))
    """

    lr: Any = 1e-2
    _: KW_ONLY
    eta_minus: float = 0.5
    eta_plus: float = 1.2
    step_min: float = 1e-6
    step_max: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, lr=positive, step_min=positive, step_max=positive)
        fields(self, eta_minus=positive, eta_plus=positive)
        if not self.eta_minus < 1.0 < self.eta_plus:
            raise ValueError(
                f"Rprop: eta_minus must be below 1 and eta_plus above, not {self.eta_minus} "
                f"and {self.eta_plus}."
            )
        if not self.step_min < self.step_max:
            raise ValueError(
                f"Rprop: step_min must be below step_max, not {self.step_min} and {self.step_max}."
            )

    def slots(self) -> dict[str, float | None]:
        return {"prev": 0.0, "d": self.lr}

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        return {}

    def rule(self, xp: Namespace) -> Rule:
        where, maximum, minimum = xp.where, xp.maximum, xp.minimum
        eta_minus, eta_plus = self.eta_minus, self.eta_plus
        step_min, step_max = self.step_min, self.step_max

        def rule(p, g, prev, d):  # type: ignore[no-untyped-def]
            # Not g prev, which underflows where both are small: below 1e-4 in float16.
            s = where(g > 0.0, prev, where(g < 0.0, -prev, 0.0))
            d = where(s > 0.0, d * eta_plus, where(s < 0.0, d * eta_minus, d))
            d = maximum(minimum(d, step_max), step_min)
            g = where(s < 0.0, 0.0, g)
            return where(g > 0.0, p - d, where(g < 0.0, p + d, p)), g, d

        return rule
