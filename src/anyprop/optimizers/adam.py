"""Adam: a running mean of gradients divided by the root of a running mean of their squares.

    m <- beta1 m + (1 - beta1) g              m^ = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2            v^ = v / (1 - beta2^t)
    p <- p - lr m^ / (sqrt(v^) + eps)         eps_before_correction:  eps / sqrt(1 - beta2^t) for eps

The means start at 0; the divisions by 1 - beta^t, t = 1, 2, ..., make up for that. An eps that is
added to sqrt(v), before the correction, is divided with it.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from anyprop._checks import fields, flag, fraction, positive
from anyprop._numerics import one_minus_power
from anyprop._typing import Namespace, Number, Rule
from anyprop.optimizers.base import Optimizer


@dataclass(frozen=True)
class Moments(Optimizer):
    """Base of Adam and its variants: two running means, and what keeps their quotient finite.

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
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.
    """

    lr: Any = 1e-3
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, beta1=fraction, beta2=fraction, eps=positive)

    def slots(self) -> dict[str, float | None]:
        return {"m": 0.0, "v": 0.0}

    @property
    def _decays(self) -> tuple[float, float, float, float]:
        return self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2


@dataclass(frozen=True)
class Adam(Moments):
    """Adam, adaptive moment estimation.

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
        Whether eps is added to sqrt(v) before its correction, as in Keras, scikit-learn and the book,
        where it counts more in the first steps: 32 times as much in the first.
    **common
        `weight_decay`, `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see
        `Optimizer`.

    References
    ----------
    Kingma & Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = Adam(lr=0.1), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4)  # in the first step both move by lr
    array([ 0.9, -1.9])
    """

    _: KW_ONLY
    eps_before_correction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        fields(self, eps_before_correction=flag)

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        root_correction = one_minus_power(self.beta2, t) ** -0.5
        return {
            "lr": lr / one_minus_power(self.beta1, t),
            "root_correction": root_correction,
            "eps": self.eps * root_correction if self.eps_before_correction else self.eps,
        }

    def rule(self, xp: Namespace) -> Rule:
        sqrt = xp.sqrt
        beta1, one_minus_beta1, beta2, one_minus_beta2 = self._decays

        def rule(p, g, m, v, lr, root_correction, eps):  # type: ignore[no-untyped-def]
            m = beta1 * m + one_minus_beta1 * g
            v = beta2 * v + one_minus_beta2 * g * g
            return p - lr * m / (sqrt(v) * root_correction + eps), m, v

        return rule
