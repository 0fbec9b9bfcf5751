"""x, t and perhaps weights, as a source or a stream was given them: on the host, and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyprop._checks import kind, whole
from anyprop.backend import check_floating, holds_exactly
from anyprop.sources.reading import on_host

NAMES = ("x", "t", "weight")


def parts_of(what: str, given: Any) -> list[Any]:
    """Return (x, t) or (x, t, weight), called `what`, in NumPy; raise TypeError for all else."""
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
        raise TypeError(f"{what} must be (x, t) or (x, t, weight), not {several(given)}.")
    return [on_host(name, part) for name, part in zip(NAMES, given, strict=False)]


def several(given: Any) -> str:
    """Name what was given instead of two or three arrays."""
    if isinstance(given, (tuple, list)):
        return f"a {type(given).__name__} of {len(given)}"
    return kind(given)


def check_like(parts: Sequence[Any], first: Sequence[Any], which: str, where: str) -> None:
    """Raise ValueError unless arrays, called `which`, have the rows that the first, `where`, had."""
    if len(parts) != len(first):
        raise ValueError(f"{which}: there are {len(parts)} arrays, but {len(first)} in {where}.")
    for name, part, before in zip(NAMES, parts, first, strict=False):
        if part.shape[1:] != before.shape[1:] or part.dtype != before.dtype:
            raise ValueError(
                f"{which}: {name} has {part.dtype} rows of shape {part.shape[1:]}, but {before.dtype} "
                f"of shape {before.shape[1:]} in {where}."
            )


def rounded(name: str, part: Any, dtype: str | None, rows: Any) -> Any:
    """Return an array in the machine's byte order, rounded to a dtype that cannot hold it exactly.

    Whole numbers of t are never rounded. Messages call the rows `rows`.
    """
    native = part.dtype.newbyteorder("=")
    if dtype is None or holds_exactly(dtype, native.name) or (name == "t" and native.kind != "f"):
        return part.astype(native, copy=False)
    # NumPy has no bfloat16; numbers are rounded to it when they are moved.
    dtype = "float32" if dtype == "bfloat16" else dtype
    with np.errstate(over="ignore"):
        cast = part.astype(dtype)
    bad = np.argwhere(np.isinf(cast) & np.isfinite(part))
    if bad.size:
        row, *inner = bad[0].tolist()
        where = ", ".join(map(str, [rows[row], *inner]))
        raise ValueError(
            f"{name}[{where}] is {part[tuple(bad[0])]}, which does not fit in {dtype}; use a wider "
            "dtype."
        )
    return cast


def floating(owner: str, name: str, value: Any) -> str:
    """Return the name of a floating dtype in the machine's byte order."""
    check_floating(value)
    return "bfloat16" if value == "bfloat16" else str(np.dtype(value))


def at_least_zero(owner: str, name: str, value: Any) -> int:
    """Return `value` as a Python int of at least 0."""
    return whole(f"{owner}: {name}", value)
