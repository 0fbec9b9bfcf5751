"""The one place where training reads numbers from the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyprop._typing import Array
from anyprop.backend import namespace, to_host


def read(scalars: Sequence[Array]) -> list[float]:
    """Read arrays of shape () and of one dtype in a single transfer.

    Parameters
    ----------
    scalars : sequence of arrays, shape ()
        Any number of them.

    Returns
    -------
    list of float
        Their values.
    """
    if not scalars:
        return []
    return [float(value) for value in to_host(namespace(*scalars).stack(list(scalars)))]


def read_number(number: Any) -> float:
    """Give a Python number, or an array of shape (), as a float."""
    return float(to_host(number)) if hasattr(number, "dtype") else float(number)
