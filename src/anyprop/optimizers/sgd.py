"""SGD: stochastic gradient descent.

    p <- p - lr g

g is the gradient of a batch: that of all the data plus noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anyprop._typing import Namespace, Rule
from anyprop.optimizers.base import Optimizer


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: a step against the gradient.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Robbins & Monro, "A stochastic approximation method", 1951.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = SGD(lr=0.5), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p
    array([0., 0.])
    """

    lr: Any = 1e-2

    def rule(self, xp: Namespace) -> Rule:
        def rule(p, g, lr):  # type: ignore[no-untyped-def]
            return (p - lr * g,)

        return rule
