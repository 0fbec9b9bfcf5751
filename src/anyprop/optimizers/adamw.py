"""AdamW: Adam with weight decay that bypasses the moments.

    p <- p - lr weight_decay p
    m <- beta1 m + (1 - beta1) g              m^ = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) g^2            v^ = v / (1 - beta2^t)
    p <- p - lr m^ / (sqrt(v^) + eps)

Added to g, as in Adam, the decay would be divided by sqrt(v^) too, and act least on the
parameters with the largest gradients.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from anyprop.optimizers.adam import Adam


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Parameters
    ----------
    lr : float > 0, schedule, or array of shape ()
        Learning rate.
    weight_decay : float >= 0
        Shrinks p by the factor 1 - lr weight_decay before each step.
    beta1 : float in [0, 1)
        Decay of the running mean m.
    beta2 : float in [0, 1)
        Decay of the running mean v.
    eps : float > 0
        Keeps the division from 0.
    eps_before_correction : bool
        Whether eps is added before the correction, see `Adam`.
    **common
        `decay_biases`, `clip_value`, `clip_norm`, `clip_global_norm`: see `Optimizer`.

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> opt, p = AdamW(lr=0.1, weight_decay=0.5), np.asarray([1.0, -2.0])
    >>> p, state = opt.update(p, 0.0 * p, opt.init(p))
    >>> p  # without a gradient both shrink by 5 %
    array([ 0.95, -1.9 ])
    """

    _: KW_ONLY
    weight_decay: float = 1e-2

    decoupled: ClassVar[bool] = True
