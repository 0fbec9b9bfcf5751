"""The one place where training reads numbers from the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from anyprop._typing import Array
from anyprop.backend import namespace, to_host


def read(numbers: Sequence[Any]) -> list[float]:
    """Read numbers and vectors, those of one dtype in a single transfer.

    Parameters
    ----------
    numbers : sequence of arrays, shape () or (N,), and floats
        Any number of them; floats are on the host already.

    Returns
    -------
    list of float
        Their values, those of a vector one behind the other.
    """
    there: dict[Any, list[Array]] = {}
    for number in numbers:
        if hasattr(number, "dtype"):
            vector = namespace(number).reshape(number, (-1,))
            there.setdefault(number.dtype, []).append(vector)
    here = {
        dtype: iter(to_host(namespace(*vectors).concat(vectors)))
        for dtype, vectors in there.items()
    }
    values: list[float] = []
    for number in numbers:
        if hasattr(number, "dtype"):
            values += map(float, islice(here[number.dtype], math.prod(number.shape)))
        else:
            values.append(float(number))
    return values


def read_number(number: Any) -> float:
    """Give a Python number, or an array of shape (), as a float."""
    return float(to_host(number)) if hasattr(number, "dtype") else float(number)
