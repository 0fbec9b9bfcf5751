"""BatchNorm: each feature standardized over the batch.

    training    mu = mean_n x_n,  v = mean_n (x_n - mu)^2         over the batch, for each feature
    inference   mu, v = the running statistics
    forward     z = (x - mu) / sqrt(v + eps)
                y = gamma z + beta
    backward    dgamma = sum_n dy_n z_n,  dbeta = sum_n dy_n,  dz = dy gamma
    training    dx = (dz - mean_n dz_n - z mean_n (dz_n z_n)) / sqrt(v + eps)
    inference   dx = dz / sqrt(v + eps)                            mu and v do not depend on x

    running     mean <- (1 - momentum) mean + momentum mu
                var  <- (1 - momentum) var  + momentum v N / (N - 1)

v is the sum of the squares of (x - mu) / sqrt(N), which do not overflow where v does not. In 16
bits everything is computed in float32, and y, the gradients and the running statistics are rounded.

Saved: z and 1 / sqrt(v + eps); while training mu and v too, for the running statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from anyprop._checks import check_rows, count, fields, fraction, positive
from anyprop._numerics import cast, widened
from anyprop._typing import Array, Grads, Residuals
from anyprop.backend import namespace
from anyprop.layers.base import Layer, check_dy, own
from anyprop.layout import Spec
from anyprop.parameters import Parameters


class _Residuals(NamedTuple):
    z: Array
    inverse_std: Array
    batch: tuple[Array, Array, Any] | None  # mu, v and N of the batch; None at inference


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Standardize each feature over the batch, then scale and shift it.

    Parameters
    ----------
    d : int >= 1
        Features, D.
    momentum : float in [0, 1)
        Weight of the newest batch in the running statistics, as in PyTorch.
    eps : float > 0
        Added to the variance.

    Raises
    ------
    TypeError, ValueError
        d is not a whole number of at least 1, or momentum or eps is out of its range.

    Notes
    -----
    A batch of one row has no variance: its y is beta, and the running statistics stay as they are.

    References
    ----------
    Ioffe & Szegedy, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> layer = BatchNorm(1)
    >>> params = layer.init(dtype="float64")
    >>> y, residuals = layer.forward_train(params, np.asarray([[1.0], [3.0]]), None)
    >>> np.round(y, 3)
    array([[-1.],
           [ 1.]])
    >>> layer.updated_running(params, residuals)["mean"]
    array([0.2])
    """

    d: int
    momentum: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        fields(self, d=count, momentum=fraction, eps=positive)

    @property
    def width_in(self) -> int:
        return self.d

    def specs(self) -> Mapping[str, Spec]:
        return {
            "gamma": Spec((self.d,), 1.0),
            "beta": Spec((self.d,), 0.0),
            "mean": Spec((self.d,), 0.0, trainable=False),
            "var": Spec((self.d,), 1.0, trainable=False),
        }

    def forward(self, params: Parameters, x: Array) -> tuple[Array, Residuals]:
        check_rows("x", x, self.d)
        xp = namespace(x, own(params, "gamma"))
        y, residuals = self._standardized(
            params, widened(xp, x) - params.mean, widened(xp, params.var), None
        )
        return cast(xp, y, x.dtype), residuals

    def forward_train(self, params: Parameters, x: Array, noise: Any) -> tuple[Array, Residuals]:
        check_rows("x", x, self.d)
        xp = namespace(x, own(params, "gamma"))
        wide = widened(xp, x)
        (mu,), n = self._batch_means(wide)
        centred = wide - mu
        v = self._batch_variance(centred, n)
        y, residuals = self._standardized(params, centred, v, (mu, v, n))
        return cast(xp, y, x.dtype), residuals

    def _batch_means(self, *arrays: Array) -> tuple[list[Array], Any]:
        """Return the mean of each array over the rows of the batch, and their number, N."""
        n = arrays[0].shape[0]
        xp = namespace(*arrays)
        return [xp.sum(a, axis=0) / max(n, 1) for a in arrays], n

    def _batch_variance(self, centred: Array, n: Any) -> Array:
        """Return the mean of the squares of `centred` over the N rows of the batch."""
        scaled = centred * max(n, 1) ** -0.5
        return namespace(centred).sum(scaled * scaled, axis=0)

    def _standardized(
        self, params: Parameters, centred: Array, v: Array, batch: tuple[Array, Array, Any] | None
    ) -> tuple[Array, Residuals]:
        inverse_std = 1.0 / namespace(v).sqrt(v + self.eps)
        z = centred * inverse_std
        return params.gamma * z + params.beta, _Residuals(z, inverse_std, batch)

    def backward(self, params: Parameters, residuals: Residuals, dy: Array) -> tuple[Array, Grads]:
        z, inverse_std, batch = residuals
        xp = check_dy(dy, z)
        wide = widened(xp, dy)
        grads = {"gamma": xp.sum(wide * z, axis=0), "beta": xp.sum(wide, axis=0)}
        grads = {name: cast(xp, g, dy.dtype) for name, g in grads.items()}
        dz = wide * params.gamma
        if batch is not None:
            (mean_dz, mean_dz_z), _ = self._batch_means(dz, dz * z)
            dz = dz - mean_dz - z * mean_dz_z
        return cast(xp, dz * inverse_std, dy.dtype), grads

    def updated_running(self, params: Parameters, residuals: Residuals) -> Mapping[str, Array]:
        if residuals.batch is None or residuals.batch[2] < 2:
            return {"mean": params.mean, "var": params.var}
        mu, v, n = residuals.batch
        return self._mixed(params, self.momentum, mu, (n / (n - 1)) * v)

    def _mixed(self, params: Parameters, new: Any, mu: Array, v: Array) -> Mapping[str, Array]:
        """Move the running statistics by the share `new` of the way to others."""
        xp = namespace(mu)
        dtype, mean, var = params.mean.dtype, widened(xp, params.mean), widened(xp, params.var)
        return {
            "mean": cast(xp, (1.0 - new) * mean + new * mu, dtype),
            "var": cast(xp, (1.0 - new) * var + new * v, dtype),
        }
