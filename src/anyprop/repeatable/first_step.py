"""Whether the first step of a graph is the eager step, to rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace, to_host


class Compared(NamedTuple):
    """What a graph computed, and what the eager step does.

    Parameters
    ----------
    what : str
        What it is called.
    ours, eager : array
        Of one shape and dtype.
    before : array or None
        What was updated; None if it was computed anew.
    """

    what: str
    ours: Array
    eager: Array
    before: Array | None = None


def difference(compared: Sequence[Compared]) -> str:
    """Say what differs beyond rounding, and how far; all is read in one transfer.

    Parameters
    ----------
    compared : sequence of Compared
        All of one dtype.

    Returns
    -------
    str
        Of the first that differs; "" if none does.
    """
    xp = namespace(compared[0].eager)
    eps = float(np.finfo(dtype_name(compared[0].eager)).eps)
    lengths = [
        _length(xp, array)
        for _, ours, eager, before in compared
        for array in (ours - eager, eager if before is None else eager - before, eager)
    ]
    found = iter(to_host(xp.stack(lengths)).tolist())
    for (what, *_), apart, change, size in zip(compared, found, found, found, strict=True):
        # Where the eager step is not finite there is nothing to compare.
        if math.isfinite(size) and not apart <= 10 * eps**0.5 * change + 8 * eps * size:
            far = f"{apart:.1e}, where the eager one is {size:.1e}"
            return f"the {what} of its first step is off by {far}"
    return ""


def _length(xp: Any, x: Array) -> Array:
    """Compute the Euclidean norm of all numbers; they are scaled, so that no square overflows."""
    largest = xp.max(xp.abs(x))
    scale = xp.where(largest > 0.0, largest, xp.ones_like(largest))
    return largest * xp.sqrt(xp.sum(xp.square(x / scale)))
