"""The one place where training reads numbers from the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyprop._typing import Array
from anyprop.backend import namespace, to_host


def read(numbers: Sequence[Array | float]) -> list[float]:
    """Read arrays of shape () and of one dtype in a single transfer.

    Parameters
    ----------
    numbers : sequence of arrays, shape (), and floats
        Any number of them; floats are on the host already.

    Returns
    -------
    list of float
        Their values.
    """
    scalars = [number for number in numbers if hasattr(number, "dtype")]
    if not scalars:
        return [float(number) for number in numbers]
    there = iter(to_host(namespace(*scalars).stack(scalars)))
    return [float(next(there) if hasattr(number, "dtype") else number) for number in numbers]


def read_number(number: Any) -> float:
    """Give a Python number, or an array of shape (), as a float."""
    return float(to_host(number)) if hasattr(number, "dtype") else float(number)
