"""Momentum: steps along a velocity that collects gradients and decays.

    v <- momentum v + g                         v <- momentum v + lr g            lr_in_velocity
    p <- p - lr v                               p <- p - v

Under a constant gradient v grows towards g / (1 - momentum): ten times the gradient at 0.9.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from anyprop._checks import fields, flag, fraction
from anyprop._typing import Namespace, Rule
from anyprop.optimizers.base import Optimizer


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with momentum, the heavy-ball method.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    momentum : float in [0, 1)
        Decay of the velocity v.
    lr_in_velocity : bool
        Whether the velocity collects lr g, as in Keras and scikit-learn, instead of g. That makes a
        difference only while the learning rate changes.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p, g = Momentum(lr=0.1), np.asarray([0.0]), np.asarray([1.0])
    >>> state = opt.init(p)
    >>> for _ in range(2):
    ...     p, state = opt.update(p, g, state)
    >>> p.round(4), state.slots["v"]
    (array([-0.29]), array([1.9]))
    """

    lr: Any = 1e-2
    _: KW_ONLY
    momentum: float = 0.9
    lr_in_velocity: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, momentum=fraction, lr_in_velocity=flag)

    def slots(self) -> dict[str, float | None]:
        return {"v": 0.0}

    def rule(self, xp: Namespace) -> Rule:
        momentum, lr_in_velocity = self.momentum, self.lr_in_velocity

        def rule(p, g, v, lr):  # type: ignore[no-untyped-def]
            v = momentum * v + (lr * g if lr_in_velocity else g)
            return p - (v if lr_in_velocity else lr * v), v

        return rule
