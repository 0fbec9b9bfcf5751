"""NumPy's .npy files: one array each, read from an archive or mapped into memory, and never a pickle."""

from __future__ import annotations

import math
import os
import warnings
from tokenize import TokenError
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from anyprop._files import as_path, exceeds_memory, existing_file, read_bytes
from anyprop._foreign import HEAD, but_foreign

# by the version that follows the prefix; the third has names of fields, so no array of numbers
_HEADERS = {b"\1\0": npy.read_array_header_1_0, b"\2\0": npy.read_array_header_2_0}
# What NumPy's parser, which is Python's own, raises for what is no header.
_UNREADABLE = (
    *(KeyError, ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError),
)


class NpyHeader(NamedTuple):
    """What the header of an .npy file declares, and where the elements begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int

    @property
    def nbytes(self) -> int:
        """Size of the elements, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(stream: IO[bytes], name: object, size: int) -> NDArray[Any]:
    """Read one .npy file out of an archive.

    Messages call it `name`, and `size` is that of the whole file, as the archive has it. Memory is taken
    only as data arrives, and no more of it than the file is said to hold.

    Raises
    ------
    ValueError
        It is not exactly one whole array of numbers.
    """
    header = _read_header(stream, name, size)
    data = read_bytes(stream, header.nbytes)
    if len(data) < header.nbytes:
        raise ValueError(
            f"{name} is truncated: it ends after {len(data)} of {header.nbytes} bytes; fetch the "
            "file again."
        )
    stored = np.frombuffer(data, header.dtype)
    return stored.reshape(header.shape, order=header.order)


def map_npy(file: str | os.PathLike[str]) -> NDArray[Any]:
    """Map one .npy file into memory; its numbers are read when they are used, and cannot be changed.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not exactly one whole array of numbers, or is empty.
    """
    path = existing_file(file, "an .npy file")
    with path.open("rb") as stream:
        header = _read_header(stream, path, path.stat().st_size)
        if not header.nbytes:
            raise ValueError(f"{path} holds {header.shape} {header.dtype}; expected some numbers.")
        mapped = np.memmap(
            stream, header.dtype, "r", header.start, header.shape, order=header.order
        )
    return np.asarray(mapped)


def is_npy(file: str | os.PathLike[str]) -> bool:
    """Return whether there is a file that begins as an .npy file does."""
    path = as_path(file)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX


def _read_header(stream: IO[bytes], name: object, size: int) -> NpyHeader:
    head = stream.read(npy.MAGIC_LEN)
    if not head.startswith(npy.MAGIC_PREFIX):
        but = but_foreign(head + stream.read(HEAD - npy.MAGIC_LEN))
        raise ValueError(f"{name} is no .npy file{but}; write it by numpy.save.")
    try:
        with warnings.catch_warnings(action="ignore"):  # about files that Python 2 wrote
            shape, columns, dtype = _HEADERS[head[len(npy.MAGIC_PREFIX) :]](stream)
    except _UNREADABLE as error:
        raise ValueError(
            f"{name} is damaged: its header cannot be read ({type(error).__name__}); fetch the file "
            "again."
        ) from error
    if dtype.hasobject:
        raise ValueError(
            f"{name} holds Python objects, which are read by running code that the file brings, so "
            "anyprop does not; save an array of numbers."
        )
    header = NpyHeader(dtype, shape, "F" if columns else "C", stream.tell())
    if min(shape, default=1) < 0 or exceeds_memory(shape, dtype.itemsize):
        raise ValueError(
            f"{name} is damaged: its header declares the shape {shape}; fetch the file again."
        )
    if header.start + header.nbytes != size:
        raise ValueError(
            f"{name} is truncated or damaged: its header declares {shape} {dtype}, {header.nbytes} "
            f"bytes, but {size - header.start} follow; fetch the file again."
        )
    return header
