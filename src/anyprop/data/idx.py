"""IDX files, the format of MNIST: a type, a shape, and the numbers of one array, big-endian.

    byte 0, 1        zero
    byte 2           type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
    byte 3           number n of dimensions
    n x 4 bytes      sizes of the dimensions, unsigned
    rest             the elements in C order

Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyprop._files import exceeds_memory, existing_file, read_bytes
from anyprop._foreign import HEAD, but_foreign

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 64  # NumPy holds no more
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_MOST_EXPANSION = 1032  # deflate spends at least two bits on 258 bytes


class Header(NamedTuple):
    """What the header of an IDX file declares: the type of the elements, big-endian, and the shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the elements that follow, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: io.BufferedIOBase, name: object) -> Header:
    """Read the header of an IDX file, which messages call `name`, up to the first element.

    Raises
    ------
    ValueError
        This is not an IDX header, or it does not describe an array.
    """
    magic = stream.read(4)
    if not magic:
        raise ValueError(f"{name} is empty; expected an IDX file, plain or gzip-compressed.")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        but = but_foreign(magic + stream.read(HEAD - 4))
        raise ValueError(
            f"{name} is not an IDX file{but}: it begins with the bytes {magic.hex(' ')}, expected 00 "
            f"00, a type code out of {', '.join(f'{code:02x}' for code in _DTYPES)}, and the number of "
            "dimensions."
        )
    dimensions = magic[3]
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise ValueError(
            f"{name} declares an array of {dimensions} dimensions; "
            f"expected 1 to {_MOST_DIMENSIONS}."
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(
            f"{name} is truncated: it ends inside its header, which should take "
            f"{4 + 4 * dimensions} bytes; fetch the file again."
        )
    header = Header(np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{dimensions}I", sizes))
    if exceeds_memory(header.shape, header.dtype.itemsize):
        raise ValueError(
            f"{name} declares an array of shape {header.shape}, larger than any memory; "
            "expected the header of an IDX file that describes its contents."
        )
    return header


def read_idx(file: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, plain or compressed with gzip.

    Compression is detected by the contents, not by the name. A header is never trusted: memory is
    taken only as data arrives, and no more is unpacked than the header declares.

    Returns
    -------
    numpy.ndarray
        The stored numbers in the stored shape; uint8, int8, int16, int32, float32 or float64 in
        the machine's own byte order.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is not exactly one whole IDX file: empty, foreign, truncated, damaged or followed by
        other data.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "numbers")
    >>> _ = path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30]))
    >>> read_idx(path)
    array([[10, 20, 30]], dtype=uint8)
    """
    path = existing_file(file, "an IDX file")
    size = path.stat().st_size
    with path.open("rb") as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not compressed:
            return _read_array(raw, path, size)
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read_array(unpacked, path, size * _GZIP_MOST_EXPANSION)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"{path} is a damaged or truncated gzip file ({error}); fetch the file again."
            ) from error


def _read_array(stream: io.BufferedIOBase, path: Path, at_most: int) -> NDArray[Any]:
    header = read_header(stream, path)
    declared = f"its header declares {header.shape} {header.dtype.name}, {header.nbytes} bytes"
    if header.nbytes > at_most:
        raise ValueError(
            f"{path} is truncated or damaged: {declared}, more than a file of this size can hold; "
            "fetch the file again."
        )
    data = read_bytes(stream, header.nbytes)
    if len(data) < header.nbytes:
        raise ValueError(
            f"{path} is truncated: {declared}, but only {len(data)} follow; fetch the file again."
        )
    if stream.read(1):
        raise ValueError(
            f"{path} is too long: {declared}, but more follow; expected the end of the file there."
        )
    stored = np.frombuffer(data, header.dtype).reshape(header.shape)
    native = header.dtype.newbyteorder("=")
    if native != header.dtype:
        stored.byteswap(inplace=True)  # a second array would double the memory
    return stored.view(native)
