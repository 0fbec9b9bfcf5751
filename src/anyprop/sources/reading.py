"""Rows of an array that may be in a file.

Rows are asked for in increasing order and once each: h5py allows nothing else, and it is quick wherever
neighbours are read together. Arrays in chunks are read by slices, since a chunk of which one row is
wanted is read and decompressed whole anyway.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from anyprop._checks import kind, said
from anyprop.backend import check_plain

LARGEST = 32 << 20
"""Bytes of a slice, unless one chunk is larger."""

_SKIPPED = 64 << 10
"""Bytes between two rows of a contiguous file that are read sooner than skipped."""

_CPU = (1, 3, 11)  # DLPack's numbers of memory that the processor reads: its own, CUDA's, ROCm's


def on_host(name: str, array: Any) -> Any:
    """Return what NumPy makes of an array without moving it; raise TypeError if it is on a device."""
    check_plain(array)
    place = getattr(array, "__dlpack_device__", None)  # libraries that compute on devices have it
    reason = None
    if place is not None and place()[0] not in _CPU:
        reason = f"on {array.device}"
    else:
        try:
            host = np.asarray(array)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = said(error)
    if reason is not None and place is not None:
        library = type(array).__module__.partition(".")[0]
        raise TypeError(
            f"a Source reads from the host, but {name} is {library}'s ({reason}); give (x, t) itself to "
            "fit, or copy it by anyprop.to_host."
        )
    if reason is not None:
        raise TypeError(f"{name} cannot be read by NumPy, but is {kind(array)}: {reason}.")
    check_numbers(name, host.dtype)
    return host


def check_numbers(name: str, dtype: Any) -> None:
    """Raise TypeError unless `dtype` is one of real numbers that NumPy knows."""
    if str(dtype) == "bfloat16":
        raise TypeError(f"{name} is bfloat16, which NumPy lacks; copy it by anyprop.to_host.")
    if getattr(dtype, "kind", "") not in ("b", "i", "u", "f"):
        raise TypeError(f"{name} is {dtype}; a Source must give numbers, whole or floating.")


def rows_of(name: str, array: Any, rows: Any) -> Any:
    """Read rows of an array, called `name`, into memory of their own.

    The array has ``array[rows]``, or `chunks` and ``array[start:stop]``; the numbers of the rows are
    increasing, without repeats.
    """
    if isinstance(array, np.ndarray):  # in memory, or mapped
        return np.take(array, rows, axis=0)
    together = _rows_together(array)
    if together is None:
        return on_host(name, array[rows])
    result = np.empty((rows.size, *array.shape[1:]), array.dtype)
    for first, last in _runs(rows, together, max(1, LARGEST // (together * _bytes_of_row(array)))):
        start, stop = int(rows[first]), int(rows[last - 1]) + 1
        piece = on_host(name, array[start:stop])
        if piece.shape != (stop - start, *array.shape[1:]):
            raise ValueError(f"{name}[{start}:{stop}] has shape {piece.shape}, of {array.shape}.")
        np.take(piece, rows[first:last] - start, axis=0, out=result[first:last], mode="clip")
    return result


def _rows_together(array: Any) -> int | None:
    """Return how many neighbouring rows cost as much as one; None if rows are read by number."""
    chunks = getattr(array, "chunks", ())
    if chunks is None:  # h5py's word for a contiguous file
        return max(1, _SKIPPED // _bytes_of_row(array))
    # Dask has a tuple for each axis.
    return int(chunks[0]) if chunks and isinstance(chunks[0], (int, np.integer)) else None


def _bytes_of_row(array: Any) -> int:
    size: int = array.dtype.itemsize * math.prod(array.shape[1:])
    return max(1, size)


def _runs(rows: Any, together: int, most: int) -> list[tuple[int, int]]:
    """Cut rows into runs, each in at most so many chunks that touch; return the ends of each."""
    chunks = rows // together
    apart = np.concatenate([[True], np.diff(chunks) > 1])
    begins = chunks[apart][np.cumsum(apart) - 1]  # of each row, the chunk where its run begins
    part = (chunks - begins) // most
    cuts = np.flatnonzero(apart[1:] | (np.diff(part) > 0)) + 1
    edges = [0, *cuts.tolist(), rows.size]
    return list(pairwise(edges))
