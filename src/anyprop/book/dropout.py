"""Dropout as in the book: what is kept while training is not scaled up, inference scales down."""

from __future__ import annotations

import numpy as np

from anyprop._checks import check_shape, fraction
from anyprop._typing import Array
from anyprop._usage import Advising
from anyprop.backend import device_of, from_host, namespace
from anyprop.book.affine import kept


class Dropout(Advising):
    """Set numbers to zero while training, and multiply by 1 - `dropout_ratio` at inference.

    Parameters
    ----------
    dropout_ratio : float in [0, 1)
        Probability that a number is dropped.

    Attributes
    ----------
    mask : array, or None
        1 where the last training step kept a number and 0 elsewhere; None before the first.

    Raises
    ------
    TypeError, ValueError
        dropout_ratio is not a number in [0, 1).

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.4.

    Examples
    --------
    >>> import numpy as np
    >>> Dropout(0.25).forward(np.asarray([4.0]), train_flg=False)
    array([3.])
    """

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        self.dropout_ratio = fraction("Dropout", "dropout_ratio", dropout_ratio)
        self.mask: Array | None = None

    def forward(self, x: Array, train_flg: bool = True) -> Array:
        """Compute y from x, of any shape; the mask is drawn from NumPy's global generator."""
        xp = namespace(x)
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        keep = from_host(np.random.rand(*x.shape) > self.dropout_ratio, xp, device=device_of(x))
        self.mask = xp.astype(keep, x.dtype)
        return x * self.mask

    def backward(self, dout: Array) -> Array:
        """Compute dx from `dout`, of the same shape, with the mask of the last training step."""
        mask = kept(self, self.mask)
        namespace(dout, mask)
        check_shape("dout", dout, mask.shape)
        return dout * mask
