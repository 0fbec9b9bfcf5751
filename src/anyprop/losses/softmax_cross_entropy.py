"""SoftmaxCrossEntropy: the negative log-likelihood of the right class.

    forward    p = softmax(y),    log p_k = y_k - m - log sum_j exp(y_j - m),   m = max_j y_j
               l = - sum_k c_k T_k log p_k
    backward   dy_k = (p_k sum_j c_j T_j - c_k T_k) s                            s = dvalue w_n / Z

y are logits (N, K). T is the target distribution: the one-hot row of an integer label, or t itself if
it has shape (N, K), mixed with the uniform distribution for label smoothing, T <- (1 - a) T + a / K.
c are class weights. Z is sum_n w_n, with class weights sum_n w_n sum_k c_k T_nk for T before smoothing.

Subtracting m keeps exp from overflowing; taking the log of the quotient by hand keeps a probability
that underflows from becoming log 0. Where c T is 0, a logit of -inf costs nothing.

Saved: p, c T, whether its rows are known to sum to 1, the scale s of each row, and y for its dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anyprop._checks import check_shape, each, fields, fraction, non_negative, optional
from anyprop._numerics import cast, counted, is_integral, largest, product, summed, widened
from anyprop._typing import Array, Namespace, Residuals
from anyprop.backend import create, dtype_name, namespace, to_host
from anyprop.losses.base import (
    Loss,
    check_predictions,
    check_real,
    gradient_of_rows,
    mean_over_rows,
    row_weights,
)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Cross entropy between softmax(y) and the target classes, in nats, mean over the batch.

    Parameters
    ----------
    label_smoothing : float in [0, 1)
        Share a of the uniform distribution mixed into the targets.
    class_weight : sequence of float >= 0, length K, optional
        Weights c of the classes, one of them above 0. The mean then divides by the weights of the
        targets' classes, sum_n w_n sum_k c_k T_nk with T before smoothing.

    Raises
    ------
    TypeError, ValueError
        label_smoothing is not a number in [0, 1), or class_weight not a sequence of finite numbers of
        at least 0, one of them above.

    Notes
    -----
    Targets are integer labels (N,) in 0..K-1, or rows of probabilities (N, K). A label outside that
    range makes the loss NaN; `check_targets` names it.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990;
    Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, for label
    smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SoftmaxCrossEntropy()
    >>> value, residuals = loss.forward(np.zeros((1, 4)), np.asarray([2]))
    >>> round(float(value), 6)  # log 4
    1.386294
    >>> loss.backward(residuals)
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    label_smoothing: float = 0.0
    class_weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        fields(self, label_smoothing=fraction, class_weight=optional(each(non_negative)))
        if self.class_weight is not None and not any(self.class_weight):
            raise ValueError(
                f"{type(self).__name__}: class_weight holds no weight above 0, so nothing could be "
                f"learnt: {self.class_weight!r}; give at least one class a weight."
            )

    def forward(
        self, y: Array, t: Array, *, sample_weight: Array | None = None
    ) -> tuple[Array, Residuals]:
        xp = namespace(y, t)
        check_predictions(y)
        wide = widened(xp, y)
        weights = row_weights(wide, sample_weight)
        # The mean stays the same where all weights are divided by one number, and nothing overflows.
        unit = 1.0 if self.class_weight is None else max(self.class_weight)
        target, chosen, c, normalizer = self._target(xp, t, weights, like=wide, unit=unit)
        if self.label_smoothing:
            a = self.label_smoothing
            target = target * (1.0 - a) + a / y.shape[1]
        if c is not None:
            target = target * c

        z = wide - largest(wide)
        exp_z = xp.exp(z)
        sum_exp = summed(exp_z, axis=1, keepdims=True)
        log_p = z - xp.log(sum_exp)
        one_hot = chosen is not None and c is None and not self.label_smoothing
        if one_hot:  # so nothing needs to be multiplied or summed; a label out of range has T = NaN
            terms = xp.where(chosen, log_p, target)
        else:
            terms = product(xp, target, log_p)
        rows = -summed(terms, axis=1)
        value, scale = mean_over_rows(xp, rows, weights, normalizer, dtype=y.dtype)
        return value, (exp_z / sum_exp, target, one_hot, scale, y)

    def backward(self, residuals: Residuals, dvalue: Any = 1.0) -> Array:
        p, target, one_hot, scale, y = residuals
        share = p if one_hot else p * summed(target, axis=1, keepdims=True)
        return gradient_of_rows(share - target, scale, dvalue, like=y)

    def total_weight(
        self, t: Array, sample_weight: Array | None = None, *, dtype: Any = None
    ) -> Any:
        if self.class_weight is None:
            return super().total_weight(t, sample_weight, dtype=dtype)
        xp = namespace(t)
        rows = create(xp.zeros, (t.shape[0], len(self.class_weight)), like=t, dtype=dtype)
        weights = row_weights(rows, sample_weight)
        *_, normalizer = self._target(xp, t, weights, like=rows, unit=1.0)
        return xp.sum(normalizer)

    def _target(
        self, xp: Namespace, t: Array, weights: Array | None, like: Array, unit: float
    ) -> tuple[Array, Array | None, Array | None, Array | None]:
        """Return T before smoothing, labels' places in it, c / `unit`, and rows' shares of Z by c."""
        target, chosen = _distribution(xp, t, like)
        if self.class_weight is None:
            return target, chosen, None, None
        self._check_classes(like.shape[1])
        class_weight = [weight / unit for weight in self.class_weight]
        c = create(xp.asarray, class_weight, like=like, dtype=like.dtype)
        of_rows = xp.sum(target * c, axis=1)
        return target, chosen, c, of_rows if weights is None else product(xp, weights, of_rows)

    def _check_classes(self, k: int) -> None:
        if self.class_weight is not None and len(self.class_weight) != k:
            raise ValueError(f"class_weight has {len(self.class_weight)} entries for {k} classes.")

    def check_targets(self, t: Array, width: int) -> None:
        """Raise ValueError if a label is not in 0..`width`-1, or a row is not a distribution.

        Nor can labels of a network with one output be meant: its loss is 0 whatever they are.

        Parameters
        ----------
        t : array, shape (N,) int or (N, K) float
            All targets; they are read to the host.
        width : int
            Number of classes, K.

        Raises
        ------
        TypeError
            The labels are not integers.
        """
        self._check_classes(width)
        if t.ndim == 1:
            _check_integers(t)
            if width == 1:
                raise ValueError(
                    "a network with one output gives one class, which is certain, so nothing could "
                    "be learnt; give it an output for each class, or use SigmoidCrossEntropy."
                )
            labels = to_host(t)
            outside = labels[(labels < 0) | (labels >= width)]
            if outside.size:
                raise ValueError(
                    f"label {outside[0]} is out of range: the network has {width} outputs, "
                    f"so labels must be in 0..{width - 1}."
                )
        elif t.ndim != 2 or t.shape[1] != width:
            raise ValueError(
                f"targets have shape {tuple(t.shape)}, expected (N,) integer labels "
                f"or (N, {width}) probabilities."
            )
        else:
            check_real("t", t)
            rows = to_host(t)
            if not (rows >= 0).all() or not (abs(rows.sum(axis=1) - 1) < 1e-3).all():
                raise ValueError(
                    "targets of shape (N, K) must be probabilities: rows that sum to 1."
                )

    def correct(self, y: Array, t: Array) -> Array:
        """Return for each row whether the largest logit is at the (largest) target.

        Parameters
        ----------
        y : array, shape (N, K), float
            Logits.
        t : array, shape (N,) int or (N, K) float
            Targets.

        Returns
        -------
        array, shape (N,), bool
        """
        xp = namespace(y, t)
        check_predictions(y)
        _check_fit(t, y)
        predicted = xp.argmax(y, axis=1)
        right = t if t.ndim == 1 else xp.argmax(t, axis=1)
        return predicted == cast(xp, right, predicted.dtype)


def _distribution(xp: Namespace, t: Array, like: Array) -> tuple[Array, Array | None]:
    """Return the targets as distributions, like `like`, and for labels their places, (N, K) bool."""
    _check_fit(t, like)
    if t.ndim != 1:
        return cast(xp, t, like.dtype), None
    k = like.shape[1]
    classes = counted(like, k)
    labels = cast(xp, t, classes.dtype)[:, None]
    chosen = labels == classes
    one_hot = cast(xp, chosen, like.dtype)
    return xp.where((labels >= 0) & (labels < k), one_hot, xp.nan), chosen


def _check_fit(t: Array, y: Array) -> None:
    """Raise unless t holds labels or distributions for the rows of y."""
    if t.ndim != 1:
        check_shape("t", t, y.shape)
        check_real("t", t)
        return
    if t.shape[0] != y.shape[0]:
        raise ValueError(f"{t.shape[0]} labels for {y.shape[0]} rows of predictions.")
    _check_integers(t)


def _check_integers(labels: Array) -> None:
    if not is_integral(namespace(labels), labels.dtype):
        raise TypeError(
            f"labels must be integers, not {dtype_name(labels)}; cast them if they number classes, "
            "pass (N, K), or use MeanSquaredError for other numbers."
        )
