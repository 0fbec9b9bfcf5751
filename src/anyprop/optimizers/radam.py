"""RAdam: Adam that adapts only once its denominator can be trusted.

    m <- beta1 m + (1 - beta1) g              m^ = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2            v^ = v / (1 - beta2^t)
    n_inf = 2 / (1 - beta2) - 1               n = n_inf - 2 t beta2^t / (1 - beta2^t)
    p <- p - lr m^ r / (sqrt(v^) + eps)       where n > 5: r^2 = (n - 4) (n - 2) n_inf
    p <- p - lr m^                            elsewhere          / ((n_inf - 4) (n_inf - 2) n)

n is how many gradients v averages over; r rises from near 0 to 1 and acts as a warm-up. Both depend
on t alone. The rule adds the two kinds of step, one of them with factor 0. As in PyTorch, eps is added
to sqrt(v), before the correction of its start.
"""

from __future__ import annotations

from dataclasses import dataclass

from anyprop._checks import is_scalar_array
from anyprop._numerics import one_minus_power
from anyprop._typing import Namespace, Number, Rule
from anyprop.backend import namespace
from anyprop.optimizers.adam import Moments


@dataclass(frozen=True)
class RAdam(Moments):
    """Rectified Adam: momentum at first, then Adam with a factor that rises to 1.

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

    References
    ----------
    Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = RAdam(lr=0.1), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 2.0 * p, opt.init(p))
    >>> p.round(4)  # the first steps are the gradient's, times lr
    array([ 0.8, -1.6])
    """

    def scalars(self, t: int | Number, lr: Number) -> dict[str, Number]:
        plain, adaptive = self._factors(t)
        return {
            "lr": lr / one_minus_power(self.beta1, t),
            "plain": plain,
            "adaptive": adaptive,
        }

    def _factors(self, t: int | Number) -> tuple[Number, Number]:
        """Compute (1, 0) for a step of momentum, (0, r sqrt(1 - beta2^t)) for one of Adam."""
        n_inf = 2.0 / (1.0 - self.beta2) - 1.0
        if n_inf <= 5.0:
            return 1.0, 0.0
        correction = one_minus_power(self.beta2, t)
        n = n_inf - 2.0 * t * self.beta2**t / correction
        if not is_scalar_array(t):
            return (0.0, self._r(n, n_inf) * correction**0.5) if n > 5.0 else (1.0, 0.0)
        xp = namespace(t)
        trusted = xp.astype(n > 5.0, n.dtype)
        return 1.0 - trusted, trusted * self._r(xp.maximum(n, 5.0), n_inf) * correction**0.5

    def _r(self, n: Number, n_inf: float) -> Number:
        return ((n - 4.0) * (n - 2.0) * n_inf / ((n_inf - 4.0) * (n_inf - 2.0) * n)) ** 0.5

    def rule(self, xp: Namespace) -> Rule:
        sqrt, eps = xp.sqrt, self.eps
        beta1, one_minus_beta1, beta2, one_minus_beta2 = self._decays

        def rule(p, g, m, v, lr, plain, adaptive):  # type: ignore[no-untyped-def]
            m = beta1 * m + one_minus_beta1 * g
            v = beta2 * v + one_minus_beta2 * g * g
            return p - lr * m * (plain + adaptive / (sqrt(v) + eps)), m, v

        return rule
