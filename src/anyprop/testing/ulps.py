"""How far numbers are from each other, in units in the last place.

A unit is the spacing of the dtype's numbers around a magnitude that the caller chooses: an entry's own,
or that of the terms of a sum, which may cancel.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def distances(actual: Any, expected: Any, magnitude: Any = None) -> Any:
    """Measure each entry's distance from what is expected, in units in the last place.

    The dtype of `expected` sets the unit, and the magnitudes, those of `expected` by default. Integers
    and booleans count in whole numbers. The distance is 0 where both are equal, NaN and infinities
    included, or closer than the smallest normal number, since libraries may treat smaller ones as zero;
    it is infinite where only one is finite or shapes differ.

    Examples
    --------
    >>> one = np.float32(1.0)
    >>> float(distances(np.nextafter(one, np.float32(2.0)), one))
    1.0
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:
        return np.full(expected.shape, np.inf)
    same = (actual == expected) | ((actual != actual) & (expected != expected))
    wide, target = actual.astype(np.float64), expected.astype(np.float64)
    # Whole numbers that differ do so by 1 at least, also where float64 rounds both to the same.
    unit, ignored, least = np.float64(1.0), -1.0, 1.0
    if expected.dtype.kind == "f":
        size = np.abs(target) if magnitude is None else np.asarray(magnitude, np.float64)
        info = np.finfo(expected.dtype)
        ignored, least = float(info.smallest_normal), 0.0
        size = np.fmin(np.fmax(size, ignored), float(info.max))
        with np.errstate(all="ignore"):
            unit = np.spacing(size.astype(expected.dtype)).astype(np.float64)
    with np.errstate(all="ignore"):
        difference = np.abs(wide - target)
        found = np.where(same | (difference <= ignored), 0.0, np.maximum(difference / unit, least))
    return np.where(np.isnan(found), np.inf, found)


def largest(found: Any) -> float:
    """Return the largest distance; 0 where there are no numbers."""
    return float(np.max(found, initial=0.0))
