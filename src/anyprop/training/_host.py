"""The one place where training reads numbers from the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyprop._typing import Array
from anyprop.backend import namespace, to_host


def read(numbers: Sequence[Array | float]) -> list[float]:
    """Read arrays of shape (), those of one dtype in a single transfer.

    Parameters
    ----------
    numbers : sequence of arrays, shape (), and floats
        Any number of them; floats are on the host already.

    Returns
    -------
    list of float
        Their values.
    """
    there: dict[Any, list[Array]] = {}
    for number in numbers:
        if hasattr(number, "dtype"):
            there.setdefault(number.dtype, []).append(number)
    here = {
        dtype: iter(to_host(namespace(*scalars).stack(scalars))) for dtype, scalars in there.items()
    }
    return [float(next(here[n.dtype]) if hasattr(n, "dtype") else n) for n in numbers]


def read_number(number: Any) -> float:
    """Give a Python number, or an array of shape (), as a float."""
    return float(to_host(number)) if hasattr(number, "dtype") else float(number)
