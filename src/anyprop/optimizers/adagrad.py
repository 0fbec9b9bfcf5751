"""AdaGrad: each step divided by the root of the sum of all squared gradients.

    h <- h + g^2
    p <- p - lr g / (sqrt(h) + eps)           eps_in_sqrt:     p <- p - lr g / sqrt(h + eps)

h starts at `initial_accumulator` and never falls, so the steps never grow.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from anyprop._checks import fields, flag, non_negative, positive
from anyprop._typing import Namespace, Rule
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.presets import HasPresets


@dataclass(frozen=True)
class AdaGrad(HasPresets, Optimizer):
    """AdaGrad, the adaptive gradient method.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    eps : float > 0
        Keeps the division from 0.
    eps_in_sqrt : bool
        Whether eps is inside the square root. There 1e-7 acts as 3e-4 does outside.
    initial_accumulator : float >= 0
        What h starts from.
    decoupled : bool
        Whether weight decay shrinks p itself, as AdamW has it, instead of adding to the gradient.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", 2011.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = AdaGrad(lr=0.5), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4), state.slots["h"]  # in the first step both move by lr
    (array([ 0.5, -1.5]), array([ 4., 16.]))
    """

    lr: Any = 1e-2
    _: KW_ONLY
    eps: float = 1e-7
    eps_in_sqrt: bool = False
    initial_accumulator: float = 0.0
    decoupled: bool = False  # type: ignore[misc]

    presets: ClassVar = {
        "torch": {"lr": 1e-2, "eps": 1e-10},
        "keras": {
            "lr": 1e-3,
            "eps": 1e-7,
            "eps_in_sqrt": True,
            "initial_accumulator": 0.1,
            "decoupled": True,
        },
        "optax": {"lr": 1e-3, "eps": 1e-7, "eps_in_sqrt": True, "initial_accumulator": 0.1},
        "chainer": {"lr": 1e-3, "eps": 1e-8},
        "book": {"lr": 1e-2, "eps": 1e-7},
    }
    options: ClassVar = {
        "torch": {"eps", "initial_accumulator"},
        "keras": {"eps", "initial_accumulator"},
        "optax": {"eps", "initial_accumulator"},
        "chainer": {"eps"},
        "book": set(),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, eps=positive, eps_in_sqrt=flag, decoupled=flag)
        fields(self, initial_accumulator=non_negative)

    def slots(self) -> dict[str, float | None]:
        return {"h": self.initial_accumulator}

    def rule(self, xp: Namespace) -> Rule:
        sqrt, eps, eps_in_sqrt = xp.sqrt, self.eps, self.eps_in_sqrt

        def rule(p, g, h, lr):  # type: ignore[no-untyped-def]
            h = h + g * g
            root = sqrt(h + eps) if eps_in_sqrt else sqrt(h) + eps
            return p - lr * g / root, h

        return rule
