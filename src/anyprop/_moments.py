"""Mean and standard deviation of each column of data that need not fit into memory.

The rows are read once, in portions. In float64, for a portion of k rows with the mean m and the sum of
squared deviations s, after n rows with the mean M and the sum S (Chan, Golub & LeVeque, "Algorithms for
computing the sample variance", 1983):

    d = m - M,    S <- S + s + d^2 n k / (n + k),    M <- M + d k / (n + k)

No square of a mean is subtracted from a mean of squares, and the first row is subtracted from all
before anything is rounded; so no digits are lost where the spread is small beside the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import has, kind
from anyprop.backend import check_array, to_host

_NUMBERS = 2**21
"""Of a portion: 16 MiB in float64."""


def moments(owner: str, data: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and standard deviation of each column of an array (N, D) or of a source's x.

    The deviation of a column that holds one number only is 1.
    """
    n = 0
    origin: Any = None
    M: Any = 0.0
    S: Any = 0.0
    most: Any = 0.0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        for x in _portions(owner, data):
            origin = x[0].copy() if origin is None else origin
            x -= origin
            k, m = len(x), x.mean(axis=0)
            d = m - M
            S = S + ((x - m) ** 2).sum(axis=0) + d * d * (n * (k / (n + k)))
            M = M + d * (k / (n + k))
            most = np.maximum(most, abs(x).max(axis=0))
            n += k
        # By the numbers, not by S: squares can be too small for float64.
        mean, std = origin + M, np.where(most == 0.0, 1.0, np.sqrt(S / n))
        divided = np.isfinite(1.0 / std) & np.isfinite(mean / std) & np.isfinite(std)
    for column in np.flatnonzero(~divided):
        raise ValueError(
            f"{owner}: column {column} spreads by {most[column]:.4g} around {origin[column]:.4g}, too "
            "little or too far to be divided by its standard deviation in float64."
        )
    return mean, std


def _portions(owner: str, data: Any) -> Iterator[NDArray[Any]]:
    """Read the rows in portions, as float64."""
    if has(data, "read", "__len__"):  # a Source, of which this module knows no more

        def rows(start: int, stop: int) -> Any:
            return data.read(np.arange(start, stop))[0]

        n = len(data)
    else:
        try:
            check_array("data", data)
        except TypeError as error:
            raise TypeError(
                f"{owner} takes an array (N, D) or an anyprop.Source, not {kind(data)}: {error}"
            ) from None
        if data.ndim != 2:
            raise ValueError(f"{owner}: data has shape {tuple(data.shape)}, expected (N, D).")

        def rows(start: int, stop: int) -> Any:
            return to_host(data[start:stop, :])

        n = data.shape[0]
    if n == 0:
        raise ValueError(f"{owner}: data has no rows.")
    start, size = 0, 1
    while start < n:
        x = np.asarray(rows(start, min(start + size, n)))
        if x.dtype.kind not in "biuf":
            raise TypeError(f"{owner}: x is {x.dtype}, expected real numbers.")
        if x.ndim != 2 or not x.shape[1]:
            raise ValueError(f"{owner}: x has shape {(n, *x.shape[1:])}, expected (N, D).")
        x = x.astype(np.float64)
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0].tolist()
            raise ValueError(
                f"{owner}: x[{start + row}, {column}] is {x[row, column]}; remove or replace it."
            )
        yield x
        start += len(x)
        size = max(1, _NUMBERS // x.shape[1])
