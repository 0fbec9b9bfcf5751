"""The gradient by central differences, as in chapter 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anyprop._checks import kind
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import device_of, dtype_name, from_host, namespace, to_host
from anyprop.book.holding import replace

_H = 1e-4


@usage("numerical_gradient(f, x)")
def numerical_gradient(f: Callable[[Array], Any], x: Array) -> Array:
    """Compute the gradient of f at x by central differences of 1e-4.

    Parameters
    ----------
    f : function of an array
        Its value, a number or an array of shape (). Like the book's, it may ignore its argument and
        look x up where it was: while this runs x is changed in place, or where arrays cannot be
        written to, it is replaced in every layer of `anyprop.book` that holds it.
    x : array, float
        The point; it is as before when this returns. float64, if the result is to be exact: in
        float32 a loss near 1 has about four digits of gradient less than it has itself.

    Returns
    -------
    array
        The gradient, beside x, of its shape and dtype.

    Raises
    ------
    TypeError
        x is not an array of a floating dtype, or f is not a function whose values are numbers.
    ValueError
        A number of x is so large that 1e-4 is lost beside it.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> numerical_gradient(lambda x: np.sum(x**2), np.asarray([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    if not callable(f):
        raise TypeError(f"f must be a function of an array, not {kind(f)}.")
    xp = namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise TypeError(f"x must be of a floating dtype, not {dtype_name(x)}.")
    host, current = np.array(to_host(x)), x
    grad = np.zeros(host.shape)
    for index in np.ndindex(host.shape):
        before, ends = host[index], []
        try:
            for shift in (_H, -_H):
                host[index] = before + shift
                current = _written(current, index, host)
                ends.append((float(host[index]), _value(f, current)))
        finally:
            host[index] = before
            current = _written(current, index, host)
            if current is not x:
                replace({id(current): x})
                current = x
        (right, above), (left, below) = ends
        if right == left:
            raise ValueError(
                f"x holds {before}, near which numbers of {dtype_name(x)} are more than {_H:g} apart: "
                "differences need a wider dtype, or smaller numbers."
            )
        grad[index] = (above - below) / (right - left)
    return from_host(grad, xp, dtype=dtype_name(x), device=device_of(x))


def _value(f: Callable[[Array], Any], x: Array) -> float:
    value = f(x)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"f must return a number, not {kind(value)}.") from None


def _written(array: Array, index: tuple[int, ...], host: Any) -> Array:
    """Write one number of `host` into `array`, or put a new array in its place."""
    try:
        array[index] = host[index].item()  # a Python number, or a longdouble in full
        return array
    except (TypeError, ValueError, RuntimeError):
        new = from_host(
            host.copy(), namespace(array), dtype=dtype_name(array), device=device_of(array)
        )
        replace({id(array): new})
        return new
