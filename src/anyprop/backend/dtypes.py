"""Dtypes by name, and the conversion of numbers on the host."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


def as_dtype(name: Any) -> np.dtype[Any]:
    """Return NumPy's dtype of a name; raise TypeError if there is none."""
    # NumPy takes much more: float64 for None, a record for a dict, object for any class.
    classes = (np.generic, bool, int, float, complex)
    of_class = isinstance(name, type) and issubclass(name, classes)
    meant = of_class or isinstance(name, (str, np.dtype))
    try:
        dtype: np.dtype[Any] | None = np.dtype(name) if meant else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None:
        raise TypeError(f"dtype must be the name of a dtype such as 'float32', not {name!r}.")
    return dtype


def check_floating(dtype: Any) -> None:
    """Raise TypeError unless parameters can be of a dtype: floating, in native byte order."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        return
    found = as_dtype(dtype)
    if found.kind != "f" or not found.isnative:
        raise TypeError(
            f"dtype must be a floating dtype in the machine's byte order such as 'float32', "
            f"not {dtype!r}."
        )


def holds_exactly(dtype: str, other: str) -> bool:
    """Return whether a floating dtype has every number of another dtype, of any byte order.

    A dtype that is not known here has unknown numbers.
    """
    wide, narrow = _numbers_of(dtype), _numbers_of(other)
    if wide is None or narrow is None:
        return dtype == other
    return wide.digits >= narrow.digits and wide.most >= narrow.most and wide.least <= narrow.least


class _Numbers(NamedTuple):
    """Numbers of so many binary digits that are below 2^most and multiples of 2^least."""

    digits: int
    most: int
    least: int


def _numbers_of(name: str) -> _Numbers | None:
    if name == "bfloat16":  # which NumPy lacks
        return _Numbers(8, 128, -133)
    try:
        dtype: np.dtype[Any] = np.dtype(name)
        if dtype.kind == "b":
            return _Numbers(1, 1, 0)
        if dtype.kind in "iu":
            bits = np.iinfo(dtype).bits
            return _Numbers(bits - (dtype.kind == "i"), bits, 0)
        if dtype.kind != "f":
            return None
        limits = np.finfo(dtype)
    except (TypeError, ValueError):
        return None
    return _Numbers(limits.nmant + 1, limits.maxexp, limits.minexp - limits.nmant)


def cast_to(host: Any, dtype: np.dtype[Any], otherwise: str = "") -> Any:
    """Convert to a dtype in the machine's byte order; refuse numbers that do not fit in it."""
    if host.dtype == dtype and dtype.isnative:
        return host
    if dtype.kind in "biuf" and host.dtype.kind not in "biuf":
        raise TypeError(f"an array of {host.dtype} cannot become {dtype.name}; pass real numbers.")
    dtype = dtype.newbyteorder("=")
    if dtype.kind not in "fiu":
        return host.astype(dtype, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = host.astype(dtype, copy=False)
    if host.dtype.kind in "fiu" and not np.can_cast(host.dtype, dtype):
        if dtype.kind == "f":
            bad = np.isinf(cast) & np.isfinite(host)
        else:
            limits = np.iinfo(dtype)
            if host.dtype.kind == "f":
                whole = np.trunc(host.astype("float64"))
                # One more than the largest is a power of two and so exact as a float.
                bad = ~((whole >= float(limits.min)) & (whole < float(int(limits.max) + 1)))
            else:
                bad = (host < limits.min) | (host > limits.max)
        if bad.any():
            raise OverflowError(
                f"{host[bad].flat[0]} does not fit in {dtype.name}; ask for a wider dtype{otherwise}."
            )
    return cast
