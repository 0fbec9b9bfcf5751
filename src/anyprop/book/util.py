"""The book's helpers: rows of a data set, a smooth curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyprop._checks import few
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import check_array, device_of, from_host, namespace


@usage("shuffle_dataset(x, t)")
def shuffle_dataset(x: Array, t: Array) -> tuple[Array, Array]:
    """Return the examples in a random order, drawn from NumPy's global generator.

    Parameters
    ----------
    x, t : array, shape (N, ...)
        Inputs and targets.

    Returns
    -------
    x, t : array
        The same rows, both in the new order.

    Raises
    ------
    TypeError, ValueError
        They are not arrays, or have different numbers of rows.

    References
    ----------
    Saitoh, "Deep Learning from Scratch", 2016, section 6.5.

    Examples
    --------
    >>> import numpy as np
    >>> x, t = shuffle_dataset(np.asarray([[1], [2], [3]]), np.asarray([1, 2, 3]))
    >>> bool((x[:, 0] == t).all())
    True
    """
    check_examples(x, t)
    order = np.random.permutation(x.shape[0])
    return take_rows(x, order), take_rows(t, order)


def check_examples(x: Array, t: Array, part: str = "") -> None:
    """Raise unless x and t are arrays with the same number of rows; `part` ends their names."""
    for name, array in ((f"x{part}", x), (f"t{part}", t)):
        check_array(name, array)
        if not array.ndim:
            raise ValueError(f"{name} has shape (), expected (N, ...): one entry per example.")
    if x.shape[0] != t.shape[0]:
        raise ValueError(f"x{part} has {x.shape[0]} rows, but t{part} has {t.shape[0]}.")


def take_rows(x: Array, rows: Any) -> Array:
    """Return rows of an array by their indices, a NumPy array."""
    xp = namespace(x)
    return xp.take(x, from_host(rows, xp, device=device_of(x)), axis=0)


@usage("smooth_curve(x)")
def smooth_curve(x: Sequence[float]) -> Any:
    """Smooth a curve, each value averaged with its ten neighbours under a Kaiser window.

    Parameters
    ----------
    x : sequence of float, length N >= 1
        Values, such as the losses of the steps.

    Returns
    -------
    numpy.ndarray, shape (N,), float64
        Weighted means. Beyond its ends the curve is continued as in the book: mirrored at the first
        value, and at the last, which counts twice.

    Raises
    ------
    TypeError, ValueError
        There are no values, or one is not a number.

    Examples
    --------
    >>> smooth_curve([1.0] * 20).round(6).tolist() == [1.0] * 20
    True
    """
    try:
        given = np.asarray(x)
        values = given.astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise TypeError(f"smooth_curve takes a row of numbers, not {few([x])}.") from None
    if values.ndim != 1 or not values.size:
        raise ValueError(f"smooth_curve takes one row of values, not shape {values.shape}.")
    window = np.kaiser(11, 2)
    continued = np.pad(np.pad(values, (5, 0), "reflect"), (0, 5), "symmetric")
    return np.convolve(continued, window / window.sum(), "valid")
