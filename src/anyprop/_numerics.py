"""Functions that several layers, losses and optimizers share, in forms that lose no digits."""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from anyprop._typing import Array, Namespace, Number
from anyprop.backend import create, name_of, namespace, to_host


def wide_dtype(xp: Namespace, dtype: Any) -> Any:
    """Return the dtype to compute sums and squares in: float32 for float16 and bfloat16.

    Ten digits of a sum, or the square of 256, do not fit in 16 bits where the result does.
    """
    return xp.float32 if _is_narrow(xp, dtype) else dtype


@lru_cache(maxsize=64)
def _is_narrow(xp: Namespace, dtype: Any) -> bool:
    if not is_floating(xp, dtype):
        name = str(dtype).rpartition(".")[2]
        raise TypeError(
            f"expected an array of a floating dtype, not of {name}; cast it to float32."
        )
    return bool(xp.finfo(dtype).bits < 32)


@lru_cache(maxsize=64)
def largest_of(xp: Namespace, dtype: Any) -> float:
    """Return the largest number of a floating dtype."""
    return float(xp.finfo(dtype).max)


@lru_cache(maxsize=64)
def is_integral(xp: Namespace, dtype: Any) -> bool:
    """Return whether a dtype is one of whole numbers."""
    return bool(xp.isdtype(dtype, "integral"))


@lru_cache(maxsize=64)
def is_floating(xp: Namespace, dtype: Any) -> bool:
    """Return whether a dtype is one of real numbers with a fraction."""
    try:
        return bool(xp.isdtype(dtype, "real floating"))
    except TypeError:  # one that a package adds to NumPy, as ml_dtypes does bfloat16
        return False


@lru_cache(maxsize=64)
def is_real(xp: Namespace, dtype: Any) -> bool:
    """Return whether a dtype is one of real numbers, whole or not, or of truth values."""
    try:
        return bool(xp.isdtype(dtype, ("bool", "integral", "real floating")))
    except TypeError:  # as above; what computes with it names it
        return True


# NumPy's arrays go the short way below: what it leaves out are calls in Python, of array-api-compat and
# of NumPy itself, which take longer than to compute with a small array.
_add: Any = np.add.reduce
_maximum: Any = np.maximum.reduce


def counted(like: Array, stop: int) -> Array:
    """Return the whole numbers 0, 1, ..., stop - 1, beside `like`."""
    if type(like) is np.ndarray:
        return np.arange(stop)
    return create(namespace(like).arange, stop, like=like)


def cast(xp: Namespace, x: Array, dtype: Any) -> Array:
    """Return `x` in a dtype; `x` itself if it has it."""
    if x.dtype == dtype:
        return x
    return x.astype(dtype) if type(x) is np.ndarray else xp.astype(x, dtype)


def widened(xp: Namespace, x: Array) -> Array:
    """Return `x` in float32 if its dtype is narrower, and `x` itself otherwise."""
    return xp.astype(x, xp.float32) if _is_narrow(xp, x.dtype) else x


def all_finite(x: Array) -> bool:
    """Return whether all numbers of an array are finite."""
    xp = namespace(x)
    with np.errstate(all="ignore"):
        # One pass without a temporary: a sum is finite only if all its terms are.
        whole = math.isfinite(to_host(xp.sum(x)))
        return whole or bool(to_host(xp.all(xp.isfinite(x))))


def summed(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Sum over an axis in the dtype of `x`, adding up in float32 if that is narrower."""
    if type(x) is np.ndarray and x.dtype.itemsize >= 4:
        return _add(x, axis=axis, keepdims=keepdims)
    xp = namespace(x)
    if not _is_narrow(xp, x.dtype):
        return xp.sum(x, axis=axis, keepdims=keepdims)
    return xp.astype(xp.sum(x, axis=axis, dtype=xp.float32, keepdims=keepdims), x.dtype)


def largest(x: Array) -> Array:
    """Return the largest number along the last axis, which is kept with size 1."""
    if type(x) is not np.ndarray:
        return namespace(x).max(x, axis=-1, keepdims=True)
    if x.ndim == 2 and 1 < x.shape[1] <= min(32, x.shape[0] // 32):
        # Column by column, so that NumPy's inner loop is as long as a column, and not as a short row.
        return reduce(np.maximum, (x[:, i : i + 1] for i in range(x.shape[1])))
    return _maximum(x, axis=-1, keepdims=True)


def matmul(x: Array, W: Array) -> Array:
    """Compute the matrix product x W."""
    xp = None if type(x) is type(W) is np.ndarray else namespace(x, W)
    if x.shape[1:] == (1,) == W.shape[:-1]:
        # A column times a row: NumPy has no BLAS for it, and a compiled step joins it to what follows.
        return x * W
    # array-api-compat's function promotes dtypes on PyTorch, which takes longer than a small product.
    if xp is None or (name_of(xp) == "torch" and x.dtype == W.dtype):
        return x @ W
    return xp.matmul(x, W)


def is_autocast(vector: Array) -> bool:
    """Return whether PyTorch gives products of such numbers another dtype, within torch.autocast."""
    if name_of(namespace(vector)) != "torch":
        return False
    some = vector[:1, None]
    return bool((some @ some.T).dtype != some.dtype)


def or_one(xp: Namespace, total: Any) -> Any:
    """Return a sum of weights, or 1 in place of 0: no weight at all makes a mean 0 / 1, not 0 / 0."""
    if not hasattr(total, "dtype"):
        return total or 1.0
    return total + xp.astype(total == 0.0, total.dtype)


def product(xp: Namespace, factor: Array, x: Array) -> Array:
    """Compute factor * x, where a factor of 0 gives 0 even if x is infinite or NaN."""
    return factor * xp.where(factor == 0.0, 0.0, x)


def sigmoid(xp: Namespace, x: Array) -> Array:
    """Compute 1 / (1 + exp(-x)) as exp(min(x, 0)) / (1 + exp(-|x|)): no exponent is above 0."""
    return xp.exp(xp.minimum(x, 0.0)) / (1.0 + xp.exp(-xp.abs(x)))


def softplus(xp: Namespace, x: Array) -> Array:
    """Compute log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)): no exponent is above 0."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


def one_minus_power(beta: float, t: int | Number) -> Number:
    """Compute 1 - beta^t as -expm1(t log beta), exact to rounding where beta^t is close to 1.

    beta is in [0, 1); t > 0 is an int, or a 0-d array of floating dtype, which the result is too.
    """
    if beta == 0.0:
        return 1.0
    expm1 = math.expm1 if isinstance(t, int) else namespace(t).expm1
    return -expm1(t * math.log(beta))
