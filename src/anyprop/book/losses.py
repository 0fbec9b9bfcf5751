"""Softmax and cross entropy as a last layer: the book's, the article's, and the loss alone."""

from __future__ import annotations

from numbers import Real
from typing import Any

from anyprop._checks import is_scalar_array, kind
from anyprop._typing import Array, Residuals
from anyprop._usage import usage
from anyprop.backend import create, namespace, to_host
from anyprop.book.affine import kept
from anyprop.layers.softmax import Softmax
from anyprop.losses import softmax_cross_entropy
from anyprop.losses.base import check_predictions


class SoftmaxWithLoss:
    """Softmax and cross entropy, mean over the batch, in nats, as the book's last layer.

    Attributes
    ----------
    y : array, shape (N, K), or None
        Probabilities of the last call.
    t : array, or None
        Its targets.
    loss : array, shape (), or None
        Its mean loss.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 5.6.

    Examples
    --------
    >>> import numpy as np
    >>> layer = SoftmaxWithLoss()
    >>> round(float(layer.forward(np.zeros((1, 4)), np.asarray([2]))), 6)  # log 4
    1.386294
    >>> layer.backward()
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    def __init__(self) -> None:
        self.t: Array | None = None
        self.loss: Array | None = None
        self._x: Array | None = None
        self._residuals: Residuals = None

    @property
    def has_seen(self) -> bool:
        """Whether there are logits, and so a `y`."""
        return self._x is not None

    @property
    def y(self) -> Array | None:
        no_arrays: Any = None
        return None if self._x is None else Softmax().forward(no_arrays, self._x)[0]

    def forward(self, x: Array, t: Array) -> Array:
        """Compute the mean loss, shape ().

        Parameters
        ----------
        x : array, shape (N, K), float
            Logits.
        t : array, shape (N,) int or (N, K)
            Labels, or one-hot rows.
        """
        self.loss, self._residuals = softmax_cross_entropy.SoftmaxCrossEntropy().forward(x, t)
        self._x, self.t = x, t
        return self.loss

    def backward(self, dout: Any = 1.0) -> Array:
        """Compute dx, (N, K), from the gradient `dout`, a number, with respect to the mean loss."""
        residuals = kept(self, self._residuals)
        if not (isinstance(dout, Real) or is_scalar_array(dout)):
            shape = getattr(dout, "shape", None)
            what = kind(dout) if shape is None else f"an array of shape {tuple(shape)}"
            raise ValueError(
                f"dout is {what}, expected a number: forward was given the targets already."
            )
        return softmax_cross_entropy.SoftmaxCrossEntropy().backward(residuals, dout)


class SoftmaxCrossEntropy(SoftmaxWithLoss):
    """Softmax and cross entropy as the article's last layer, whose backward takes the targets.

    ``forward(x)`` returns probabilities, and ``backward(t)`` then the gradient of the loss summed
    over the batch, p - t. A ``forward(x, t)`` with targets is `SoftmaxWithLoss`'s.

    Examples
    --------
    >>> import numpy as np
    >>> layer = SoftmaxCrossEntropy()
    >>> layer.forward(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
    >>> layer.backward(np.asarray([[0.0, 0.0, 1.0, 0.0]]))
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    def forward(self, x: Array, t: Array | None = None) -> Array:
        """Compute the probabilities, (N, K), or with targets the mean loss, shape ().

        Parameters
        ----------
        x : array, shape (N, K), float
            Logits.
        t : array, shape (N,) int or (N, K), optional
            Labels, or one-hot rows.
        """
        if t is not None:
            return super().forward(x, t)
        no_arrays: Any = None
        y, _ = Softmax().forward(no_arrays, x)
        self.see(x)
        return y

    def see(self, x: Array) -> None:
        """Remember the logits as `forward` does, where their probabilities are not needed."""
        self._x, self.t, self.loss, self._residuals = x, None, None, None

    def backward(self, dout: Any = 1.0) -> Array:
        """Compute dx, (N, K).

        Parameters
        ----------
        dout : array, shape (N,) int or (N, K), or float
            After ``forward(x)``: the targets t, labels or one-hot rows. After ``forward(x, t)``: the
            gradient with respect to the mean loss, a number.
        """
        x = kept(self, self._x)
        if self._residuals is not None:
            return super().backward(dout)
        if not hasattr(dout, "shape") or is_scalar_array(dout):
            raise TypeError("SoftmaxCrossEntropy: after forward(x) call backward(t), with targets.")
        loss = softmax_cross_entropy.SoftmaxCrossEntropy()
        value, residuals = loss.forward(x, dout)
        self.loss, self.t = value, dout
        return loss.backward(residuals, float(x.shape[0]))


def check_targets(t: Array, width: int) -> None:
    """Raise unless these are targets of so many classes; all labels of an only class are 0."""
    if width > 1 or t.ndim > 1 or to_host(t).any():
        softmax_cross_entropy.SoftmaxCrossEntropy().check_targets(t, width)


@usage("cross_entropy_error(y, t)")
def cross_entropy_error(y: Array, t: Array) -> Array:
    """Compute the mean of -log(p + 1e-7) over a batch, p the probability of the right class.

    Probabilities may be 0, so the book's 1e-7 stays, and no value is above 16.12. The losses of the
    layers and networks come from the logits and have no such bound.

    Parameters
    ----------
    y : array, shape (N, K) or (K,), float
        Probabilities.
    t : array, shape (N,) int or (N, K); (), (1,) or (K,) for a single example
        Labels, or one-hot rows.

    Returns
    -------
    array, shape ()
        The mean, in nats.

    Raises
    ------
    TypeError, ValueError
        The targets do not fit y: another shape, labels out of range, rows that do not sum to 1.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(cross_entropy_error(np.asarray([0.1, 0.6, 0.3]), np.asarray([0, 1, 0]))), 6)
    0.510825
    """
    xp = namespace(y, t)
    if y.ndim == 1:
        is_label = t.shape == (1,) != y.shape
        y, t = xp.expand_dims(y, axis=0), t if is_label else xp.expand_dims(t, axis=0)
    check_predictions(y)
    if t.shape[:1] != y.shape[:1]:
        raise ValueError(f"t has shape {tuple(t.shape)}, expected a label or row for each of y's.")
    check_targets(t, y.shape[1])
    if t.ndim == 1:
        classes = create(xp.arange, y.shape[1], like=y, dtype=t.dtype)
        t = xp.expand_dims(t, axis=1) == classes
    target = xp.astype(t, y.dtype)
    return -xp.sum(target * xp.log(y + 1e-7)) / max(y.shape[0], 1)
