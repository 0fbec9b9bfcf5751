"""The one place where training reads numbers from the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anyprop.backend import namespace, to_host


def read(numbers: Sequence[Any]) -> list[float]:
    """Read numbers and vectors of one dtype in a single transfer.

    Parameters
    ----------
    numbers : sequence of arrays, shape () or (N,), and floats
        Any number of them; floats are on the host already.

    Returns
    -------
    list of float
        Their values, those of a vector one behind the other.
    """
    arrays = [number for number in numbers if hasattr(number, "dtype")]
    if not arrays:
        return [float(number) for number in numbers]
    xp = namespace(*arrays)
    there = to_host(xp.concat([xp.reshape(array, (-1,)) for array in arrays]))
    values: list[float] = []
    start = 0
    for number in numbers:
        if hasattr(number, "dtype"):
            stop = start + math.prod(number.shape)
            values += map(float, there[start:stop])
            start = stop
        else:
            values.append(float(number))
    return values


def read_number(number: Any) -> float:
    """Give a Python number, or an array of shape (), as a float."""
    return float(to_host(number)) if hasattr(number, "dtype") else float(number)
