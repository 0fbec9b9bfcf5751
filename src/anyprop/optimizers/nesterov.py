"""Nesterov: momentum that looks one decayed velocity ahead.

    v <- momentum v + g                         v <- momentum v + lr g            lr_in_velocity
    p <- p - lr (g + momentum v)                p <- p - (lr g + momentum v)

This is Nesterov's accelerated gradient in terms of the point where the gradient is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._typing import Namespace, Rule
from anyprop.optimizers.momentum import Momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's accelerated gradient, in the form that takes gradients at p.

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
    Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k^2)",
    1983; Sutskever et al., "On the importance of initialization and momentum in deep learning",
    2013, for this form.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p, g = Nesterov(lr=0.1), np.asarray([0.0]), np.asarray([1.0])
    >>> p, state = opt.update(p, g, opt.init(p))
    >>> p.round(4), state.slots["v"]
    (array([-0.19]), array([1.]))
    """

    def rule(self, xp: Namespace) -> Rule:
        momentum, lr_in_velocity = self.momentum, self.lr_in_velocity

        def rule(p, g, v, lr):  # type: ignore[no-untyped-def]
            u = lr * g if lr_in_velocity else g
            v = momentum * v + u
            step = u + momentum * v
            return p - (step if lr_in_velocity else lr * step), v

        return rule
