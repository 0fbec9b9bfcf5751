"""RMSProp: each step divided by the root of a running mean of squared gradients.

    h <- rho h + (1 - rho) g^2
    s  = h                                    centered:        a <- rho a + (1 - rho) g
                                                               s  = |h - a^2|
                                              bias_correction: h and a divided by 1 - rho^t
    u  = g / (sqrt(s) + eps)                  eps_in_sqrt:     u = g / sqrt(s + eps)
    p <- p - lr u                             momentum:        v <- momentum v + u,  p <- p - lr v
                                              nesterov:        p <- p - lr (momentum v + u)

h starts at `initial_scale`; where that is 0, the first step is lr / sqrt(1 - rho) in every parameter
that has a gradient, whatever its size.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from anyprop._checks import fields, flag, fraction, non_negative, positive
from anyprop._numerics import one_minus_power
from anyprop._typing import Namespace, Number, Rule
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.presets import HasPresets


@dataclass(frozen=True)
class RMSProp(HasPresets, Optimizer):
    """RMSProp with every option in which its implementations elsewhere differ.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    rho : float in [0, 1)
        Decay of the running means; `decay_rate` in the book, `alpha` in PyTorch.
    eps : float > 0
        Keeps the division from 0.
    eps_in_sqrt : bool
        Whether eps is inside the square root. There 1e-7 acts as 3e-4 does outside.
    momentum : float in [0, 1)
        Decay of the velocity v; 0 for none.
    nesterov : bool
        Look ahead along the velocity; needs momentum.
    centered : bool
        Divide by the standard deviation of the gradient, not by its root mean square.
    bias_correction : bool
        Divide the running means by what they lack at the start, 1 - rho^t, as Adam does. Beside
        `centered` the first s is then 0, and the first step g / eps, so choose a large eps there.
    initial_scale : float >= 0
        What h starts from.
    lr_in_velocity : bool
        Whether the velocity collects lr u instead of u; that matters only when lr changes.
    decoupled : bool
        Whether weight decay shrinks p itself, as AdamW has it, instead of adding to the gradient.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Tieleman & Hinton, "Lecture 6.5: RMSProp", COURSERA: Neural Networks for Machine Learning, 2012;
    Graves, "Generating sequences with recurrent neural networks", 2013, for `centered`.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = RMSProp(lr=0.1), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4), state.slots["h"]  # both move by 0.1 / sqrt(1 - 0.99) = 1
    (array([ 0., -1.]), array([0.04, 0.16]))
    """

    lr: Any = 1e-3
    _: KW_ONLY
    rho: float = 0.99
    eps: float = 1e-7
    eps_in_sqrt: bool = False
    momentum: float = 0.0
    nesterov: bool = False
    centered: bool = False
    bias_correction: bool = False
    initial_scale: float = 0.0
    lr_in_velocity: bool = False
    decoupled: bool = False  # type: ignore[misc]

    presets: ClassVar = {
        "torch": {"lr": 1e-2, "rho": 0.99, "eps": 1e-8},
        "keras": {
            "lr": 1e-3,
            "rho": 0.9,
            "eps": 1e-7,
            "eps_in_sqrt": True,
            "lr_in_velocity": True,
            "decoupled": True,
        },
        "optax": {"lr": 1e-3, "rho": 0.9, "eps": 1e-8, "eps_in_sqrt": True, "lr_in_velocity": True},
        "chainer": {"lr": 1e-2, "rho": 0.99, "eps": 1e-8},
        "book": {"lr": 1e-2, "rho": 0.99, "eps": 1e-7},
    }
    options: ClassVar = {
        "torch": {"rho", "eps", "momentum", "centered"},
        "keras": {"rho", "eps", "momentum", "centered"},
        "optax": {
            "rho",
            "eps",
            "eps_in_sqrt",
            "momentum",
            "nesterov",
            "centered",
            "bias_correction",
            "initial_scale",
        },
        "chainer": {"rho", "eps", "eps_in_sqrt"},
        "book": {"rho"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, rho=fraction, eps=positive, momentum=fraction, initial_scale=non_negative)
        fields(self, eps_in_sqrt=flag, nesterov=flag, centered=flag)
        fields(self, bias_correction=flag, lr_in_velocity=flag, decoupled=flag)
        if self.nesterov and not self.momentum:
            raise ValueError("RMSProp: nesterov=True needs a momentum above 0.")

    def slots(self) -> dict[str, float | None]:
        return {
            "h": self.initial_scale,
            "a": 0.0 if self.centered else None,
            "v": 0.0 if self.momentum else None,
        }

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        corrected = self.bias_correction
        return {"lr": lr, "correction": 1.0 / one_minus_power(self.rho, t) if corrected else 1.0}

    def rule(self, xp: Namespace) -> Rule:
        sqrt, absolute = xp.sqrt, xp.abs
        rho, one_minus_rho, eps, momentum = self.rho, 1.0 - self.rho, self.eps, self.momentum
        eps_in_sqrt, centered, corrected = self.eps_in_sqrt, self.centered, self.bias_correction
        has_velocity, nesterov = self.momentum > 0.0, self.nesterov
        lr_in_velocity = has_velocity and self.lr_in_velocity

        def rule(p, g, h, a, v, lr, correction):  # type: ignore[no-untyped-def]
            h = rho * h + one_minus_rho * g * g
            s = h * correction if corrected else h
            if centered:
                a = rho * a + one_minus_rho * g
                mean = a * correction if corrected else a
                s = absolute(s - mean * mean)  # rounding can bring it below 0
            u = g / sqrt(s + eps) if eps_in_sqrt else g / (sqrt(s) + eps)
            if lr_in_velocity:
                u = lr * u
            if has_velocity:
                v = momentum * v + u
                u = momentum * v + u if nesterov else v
            return p - (u if lr_in_velocity else lr * u), h, a, v

        return rule
