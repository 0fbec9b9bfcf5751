"""Batch normalization as in the book: running statistics from 0, of the variance of each batch."""

from __future__ import annotations

from typing import Any, NamedTuple

from anyprop._checks import check_shape, fraction
from anyprop._typing import Array, Residuals, Shape
from anyprop.backend import check_array, namespace
from anyprop.book.affine import as_rows, kept
from anyprop.book.holding import Held, HoldsArrays
from anyprop.layers.batch_norm import BatchNorm


class _Arrays(NamedTuple):
    gamma: Array
    beta: Array
    mean: Array
    var: Array


class BatchNormalization(HoldsArrays):
    """Standardize each feature over the batch, then scale by gamma and shift by beta.

    Parameters
    ----------
    gamma, beta : array, shape (D,), float
        Scale and shift.
    momentum : float in [0, 1)
        Share of the running statistics that is kept; `ap.BatchNorm` counts the share that is new.
    running_mean, running_var : array, shape (D,), float, optional
        Statistics for inference; 0 by default, so they need a while.

    Attributes
    ----------
    dgamma, dbeta : array or None
        Gradients with respect to gamma and beta; None before the first `backward`.

    Raises
    ------
    TypeError, ValueError
        An argument is not an array, the shapes do not fit, or `momentum` is out of its range.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.3.

    Examples
    --------
    >>> import numpy as np
    >>> layer = BatchNormalization(np.ones(1), np.zeros(1))
    >>> layer.forward(np.asarray([[1.0], [3.0]])).round(3)
    array([[-1.],
           [ 1.]])
    >>> layer.running_mean, layer.running_var
    (array([0.2]), array([0.1]))
    """

    gamma, beta = Held(), Held()

    def __init__(
        self,
        gamma: Array,
        beta: Array,
        momentum: float = 0.9,
        running_mean: Array | None = None,
        running_var: Array | None = None,
    ) -> None:
        _layer(gamma, beta)
        for name, array in (("running_mean", running_mean), ("running_var", running_var)):
            if array is not None:
                check_shape(name, array, gamma.shape)
        self.momentum = fraction("BatchNormalization", "momentum", momentum)
        self.arrays = {"gamma": gamma, "beta": beta}
        self.running_mean, self.running_var = running_mean, running_var
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None
        self._residuals: Residuals = None
        self._shape: Shape = ()

    def forward(self, x: Array, train_flg: bool = True) -> Array:
        """Compute y from x, (N, D), or (N, ...) with D numbers for each example.

        Parameters
        ----------
        x : array
            Inputs.
        train_flg : bool
            Whether the batch's own statistics are used, and the running ones follow them.
        """
        layer, xp, rows = _layer(self.gamma, self.beta), namespace(x, self.gamma), as_rows(x)
        mean = xp.zeros_like(self.gamma) if self.running_mean is None else self.running_mean
        var = xp.zeros_like(self.gamma) if self.running_var is None else self.running_var
        arrays: Any = _Arrays(self.gamma, self.beta, mean, var)
        if train_flg:
            y, residuals = layer.forward_train(arrays, rows, None)
            keep, new = self.momentum, 1.0 - self.momentum
            mean = keep * mean + new * xp.mean(rows, axis=0)
            var = keep * var + new * xp.var(rows, axis=0)
        else:
            y, residuals = layer.forward(arrays, rows)
        self.running_mean, self.running_var = mean, var
        self._residuals, self._shape = residuals, x.shape
        return xp.reshape(y, x.shape)

    def backward(self, dout: Array) -> Array:
        """Compute dx from `dout`, both of the shape of x, and store dgamma and dbeta."""
        arrays: Any = self  # of which the layer looks for gamma
        residuals = kept(self, self._residuals)
        dx, grads = _layer(self.gamma, self.beta).backward(arrays, residuals, as_rows(dout))
        self.dgamma, self.dbeta = grads["gamma"], grads["beta"]
        return namespace(dx).reshape(dx, self._shape)


def _layer(gamma: Array, beta: Array) -> BatchNorm:
    """Return the layer of two arrays, which may have been put in the place of others by hand."""
    check_array("gamma", gamma)
    if gamma.ndim != 1:
        raise ValueError(f"gamma has shape {tuple(gamma.shape)}, expected (D,).")
    check_shape("beta", beta, gamma.shape)
    return BatchNorm(gamma.shape[0], eps=1e-6)
