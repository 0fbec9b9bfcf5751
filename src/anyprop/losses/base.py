"""What a loss is.

A loss is a frozen dataclass of hyper-parameters that compares predictions y with targets t:

    value, residuals = loss.forward(y, t, sample_weight=None)
    dy               = loss.backward(residuals, dvalue=1.0)

`value` is a 0-d array, the weighted mean over the rows of the batch,

    value = sum_n w_n l_n / sum_n w_n          w_n = 1 unless sample_weight (N,) says otherwise

and `dvalue` the gradient of whatever follows with respect to it. A batch with no rows, or with no
weight, contributes nothing: its value and its gradient are 0. Losses that compare number by number
take their mean over all N K of them: l_n is the mean over row n. Nothing is read back to the host, so
a target that is out of range cannot raise there; `check_targets` checks all of them once, before
training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from anyprop._autograd import unrecorded, unrecorded_methods
from anyprop._checks import check_rows, check_shape, has, pair, shown
from anyprop._numerics import cast, is_real, or_one, product, summed, wide_dtype, widened
from anyprop._typing import Array, Namespace, Residuals
from anyprop._usage import Advising
from anyprop.backend import check_array, dtype_name, namespace, to_host

_UNRECORDED = ("forward", "backward", "total_weight", "correct")


class Loss(Advising):
    """Base of all losses; the text of its module, `anyprop.losses.base`, is the contract."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        unrecorded_methods(cls, _UNRECORDED)

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        """Compute the mean loss of a batch, and what `backward` needs.

        Parameters
        ----------
        y : array, shape (N, K), float
            Predictions.
        t : array, shape (N,) or (N, K)
            Targets, as the loss takes them.
        sample_weight : array, shape (N,), optional
            Weights w of the rows; ones by default.

        Returns
        -------
        value : array, shape (), float
            The loss, of the dtype of y.
        residuals
            What `backward` takes.
        """
        raise NotImplementedError

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        """Compute the gradient of the loss with respect to y.

        Parameters
        ----------
        residuals
            What `forward` returned.
        dvalue : float or array, shape ()
            Gradient of whatever follows with respect to value.

        Returns
        -------
        array, shape (N, K), float
            The gradient, of the dtype of y.
        """
        raise NotImplementedError

    @unrecorded
    def total_weight(
        self, t: Array, sample_weight: Array | None = None, *, dtype: Any = None
    ) -> Any:
        """Compute what the mean divides by, so that parts of a batch can be put together.

        Parameters
        ----------
        t : array, shape (N, ...)
            Targets of the part.
        sample_weight : array, shape (N,), optional
            Weights w of its rows.
        dtype : dtype, optional
            Dtype of the result where that is an array; best the dtype of the predictions.

        Returns
        -------
        float or array, shape ()
            sum_n w_n.
        """
        if sample_weight is None:
            return float(t.shape[0])
        return namespace(sample_weight).sum(sample_weight, dtype=dtype)

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError if a target cannot belong to predictions of shape (N, `width`)."""

    def correct(self, y: Array, t: Array) -> Array | None:
        """Return for each row whether the prediction is right; None where that has no meaning."""
        return None


def check_loss(loss: Any) -> None:
    """Raise TypeError unless `loss` is a loss, or acts as one."""
    if not has(loss, "forward", "backward", "check_targets"):
        raise TypeError(
            f"loss must be one such as anyprop.SoftmaxCrossEntropy(), not {shown(loss)}."
        )


def check_mean(loss: Loss, result: Any) -> tuple[Any, Residuals]:
    """Return what `forward` of a loss has returned; raise unless it is a mean and residuals."""
    value, residuals = pair(loss, "forward", result)
    if getattr(value, "shape", ()) != ():
        check_shape(f"the mean that {type(loss).__name__}.forward returns", value, ())
    return value, residuals


def check_predictions(y: Array) -> None:
    """Raise ValueError unless y is a batch of rows, (N, K)."""
    if y.ndim != 2:
        raise ValueError(f"predictions have shape {tuple(y.shape)}, expected (N, K).")


def check_real(name: str, array: Array) -> None:
    """Raise TypeError unless an array holds real numbers: a cast would drop imaginary parts."""
    if not is_real(namespace(array), array.dtype):
        raise TypeError(f"{name} must be of a real dtype, not {dtype_name(array)}.")


def check_rows_of_targets(
    t: Array, width: int, low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise ValueError unless t is (N, width) and all of it finite and within [low, high].

    Parameters
    ----------
    t : array, shape (N, K)
        All targets; they are read to the host.
    width : int
        What K must be.
    low, high : float
        Smallest and largest target allowed.
    """
    check_rows("t", t, width)
    check_real("t", t)
    host = to_host(t)
    bad = np.argwhere(~(np.isfinite(host) & (host >= low) & (host <= high)))
    if bad.size:
        n, k = bad[0].tolist()
        wanted = "finite" if low == -high == -math.inf else f"finite and in [{low:g}, {high:g}]"
        raise ValueError(f"target t[{n}, {k}] is {host[n, k]}; targets must be {wanted}.")


def matched(y: Array, t: Array) -> tuple[Namespace, Array]:
    """Return the namespace of rows y (N, K), and numbers t of the same shape as `widened` makes y."""
    xp = namespace(y, t)
    check_predictions(y)
    check_shape("t", t, y.shape)
    check_real("t", t)
    return xp, cast(xp, t, wide_dtype(xp, y.dtype))


def row_weights(y: Array, sample_weight: Array | None) -> Array | None:
    """Check the weights of the rows of y and return them in its dtype; None means ones."""
    if sample_weight is None:
        return None
    check_array("sample_weight", sample_weight)
    xp = namespace(y, sample_weight)
    check_shape("sample_weight", sample_weight, (y.shape[0],))
    check_real("sample_weight", sample_weight)
    return cast(xp, sample_weight, y.dtype)


def mean_over_entries(
    xp: Namespace, entries: Array, sample_weight: Array | None, *, dtype: Any = None
) -> tuple[Array, Any]:
    """Compute the weighted mean of the losses of single numbers.

    Parameters
    ----------
    xp : namespace
        Where the arrays belong.
    entries : array, shape (N, K)
        Losses of the numbers; l_n is the mean of row n.
    sample_weight : array, shape (N,), optional
        Weights w of the rows.
    dtype : dtype, optional
        Dtype of `value`; that of `entries` by default.

    Returns
    -------
    value : array, shape ()
        sum_n w_n l_n / sum_n w_n.
    scale : float or array, shape (N, 1)
        Derivative of `value` with respect to each entry, of the dtype of `entries`.
    """
    wide = widened(xp, entries)
    weights = row_weights(wide, sample_weight)
    dtype = entries.dtype if dtype is None else dtype
    value, scale = mean_over_rows(xp, xp.mean(wide, axis=1), weights, dtype=dtype)
    scale = scale / entries.shape[1]
    return value, scale if weights is None else cast(xp, scale, entries.dtype)


def mean_over_rows(
    xp: Namespace,
    rows: Array,
    weights: Array | None,
    normalizer: Array | None = None,
    *,
    dtype: Any,
) -> tuple[Array, Any]:
    """Compute the weighted mean of the losses of the rows.

    Parameters
    ----------
    xp : namespace
        Where the arrays belong.
    rows : array, shape (N,)
        Losses l of the rows; of float32 or wider, as the other arrays.
    weights : array, shape (N,), optional
        Weights w of the rows.
    normalizer : array, shape (N,), optional
        What to divide by, summed; the weights by default.
    dtype : dtype
        Dtype of `value`.

    Returns
    -------
    value : array, shape ()
        sum_n w_n l_n / sum_n normalizer_n. A row of weight 0 is not there, whatever its loss.
    scale : float or array, shape (N, 1)
        Derivative of `value` with respect to each l_n, for `gradient_of_rows`.
    """
    if normalizer is None:
        normalizer = weights
    if normalizer is None:
        scale: Any = 1.0 / max(rows.shape[0], 1)
        value = summed(rows) * scale
    else:
        scale = _shares(xp, weights, normalizer)
        value = xp.sum(rows * scale if weights is None else product(xp, scale, rows))
    return cast(xp, value, dtype), scale if weights is None else xp.expand_dims(scale, axis=1)


def _shares(xp: Namespace, weights: Array | None, normalizer: Array) -> Array:
    """Compute w_n / sum_n normalizer_n."""
    # Where weights are large they are divided by the largest: the sum of many 1e38 overflows float32,
    # their shares do not. JAX multiplies by its reciprocal, and takes subnormal numbers for 0.
    largest: Any = 1.0
    if normalizer.shape[0]:
        limits = xp.finfo(normalizer.dtype)
        top = xp.minimum(xp.max(normalizer), 1.0 / float(limits.smallest_normal))
        largest = xp.where(top > float(limits.max) ** 0.5, top, 1.0)
    total = or_one(xp, xp.sum(normalizer / largest))
    return ((1.0 if weights is None else weights) / largest) / total


def gradient_of_rows(slope: Array, scale: Any, dvalue: Any, like: Array) -> Array:
    """Compute the gradient with respect to predictions, slope * scale * dvalue.

    Parameters
    ----------
    slope : array, shape (N, K)
        Derivative of each entry (of each row's loss) with respect to its prediction.
    scale : float or array, shape (N, 1)
        What `mean_over_entries` or `mean_over_rows` returned.
    dvalue : float or array, shape ()
        Gradient of whatever follows with respect to the value.
    like : array, float
        An array of the dtype that the gradient has.

    Returns
    -------
    array, shape (N, K)
        The gradient; 0 in rows of weight 0, whatever their slope.
    """
    xp = namespace(slope)
    scale = scale * dvalue
    scaled = product(xp, scale, slope) if hasattr(scale, "shape") and scale.shape else slope * scale
    return cast(xp, scaled, like.dtype)
