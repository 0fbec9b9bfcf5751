"""Arrays by name in a file of the safetensors format: a header in JSON, and the numbers without gaps.

    8 bytes    length n of the header, unsigned, little-endian
    n bytes    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
                "__metadata__": {"key": "text", ...}}
    rest       the arrays in C order, little-endian

    checksum   in the metadata: SHA-256 of the whole file with zeros in place of the checksum's digits

The format's own library is what the tests compare with. It is not used here, because its version 0.8
accepts a header in which a name comes twice, and one of 100 MB; dies of SIGBUS when a file becomes
shorter while it is read, or else reads 3 to 5 times as slowly; holds an array twice while it is put into
a vector that is there; has no bfloat16 for NumPy; and opens a file by its name, which may be another one
than that whose checksum was verified. It writes metadata in an order that differs from run to run, files
that only their owner may read, and parts under names of its own, which a killed process leaves behind.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._files import as_path, write_whole
from anyprop._foreign import HEAD, foreign
from anyprop.checkpoint.header import CODES, METADATA, parse

HEADER_LIMIT = 1 << 20
"""Bytes that a header may have at most: to parse it takes some 30 times as many."""

CHECKSUM = "checksum"
_ZEROS = "0" * 64
_CHUNK = 1 << 16


def write(
    path: str | PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write a file, which appears under its name only when it is whole and safe on the disk.

    Parameters
    ----------
    path : str or path
        The file; an older one is replaced.
    arrays : dict of str to numpy.ndarray
        What it should hold.
    metadata : dict of str to str
        What else; the checksum is added.

    Raises
    ------
    TypeError
        An array is of a dtype that the format does not know.
    ValueError
        The header would be longer than a reader accepts.
    OSError
        The file cannot be written; an older one is still there.
    """
    # Wide numbers first, so that all lie on multiples of their size.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize))
    start, declared = 0, {}
    for name, array in arrays.items():
        code = CODES.get(array.dtype.newbyteorder("<"))
        if code is None:
            raise TypeError(f"{name} is {array.dtype}, which no file can hold; cast it to float32.")
        stop = start + array.nbytes
        declared[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    header = json.dumps({METADATA: {CHECKSUM: _ZEROS, **metadata}, **declared}).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > HEADER_LIMIT:
        raise ValueError(
            f"the names and the configuration take {len(header)} bytes, but a file keeps at most "
            f"{HEADER_LIMIT} beside its arrays; save less as config."
        )
    length = struct.pack("<Q", len(header))

    def data() -> Iterator[memoryview]:
        for array in arrays.values():
            little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
            yield _bytes(little)

    digest = hashlib.sha256(length + header)
    for piece in data():
        digest.update(piece)
    header = header.replace(_ZEROS.encode(), digest.hexdigest().encode(), 1)
    write_whole(path, itertools.chain([length, header], data()))


class Reader:
    """An open file whose header has been read and found consistent; used as a context.

    Parameters
    ----------
    path : str or path
        The file.

    Attributes
    ----------
    arrays : dict of str to Declared
        What it holds, in the order in which it holds it.
    metadata : dict of str to str
        What else it says.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        This is no safetensors file, it is truncated, or its header contradicts itself.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = as_path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"there is no file {self.path}; expected a safetensors file.")
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{self.path} is not a regular file; expected a safetensors file.")
        self._file = self.path.open("rb")
        try:
            self._head = self._read_head(os.fstat(self._file.fileno()).st_size)
            self.arrays, self.metadata = parse(self._head[8:], self._size)
        except ValueError as error:
            self._file.seek(0)
            kind = foreign(self._file.read(HEAD))
            self._file.close()
            raise ValueError(
                f"{self.path} is no safetensors file, or is truncated: {error}"
                if kind is None
                else f"{self.path} is no safetensors file but {kind.name}; {kind.instead}."
            ) from None
        except BaseException:
            self._file.close()
            raise

    def _read_head(self, size: int) -> bytes:
        length = self._file.read(8)
        if not length:
            raise ValueError("it has 0 bytes, so it is empty; write it again.")
        if len(length) < 8:
            raise ValueError(f"it has {len(length)} bytes, and the least is 10.")
        n = int.from_bytes(length, "little")
        if n > size - 8:
            raise ValueError(f"it declares a header of {n} bytes, but has {size} in all.")
        if n > HEADER_LIMIT:
            raise ValueError(f"its header has {n} bytes; the most is {HEADER_LIMIT}.")
        self._size = size - 8 - n
        return length + self._file.read(n)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *unused: object) -> None:
        self._file.close()

    @property
    def checksum(self) -> str | None:
        """The checksum that the file says it has; None where it says nothing."""
        return self.metadata.get(CHECKSUM)

    def check(self) -> None:
        """Raise ValueError unless the file's bytes are those that its checksum was made of."""
        declared = (self.checksum or "").encode(errors="replace")
        if len(declared) != len(_ZEROS) or self._head.count(declared) != 1:
            raise ValueError(f"{self.path} is damaged: it has no checksum to be verified by.")
        digest = hashlib.sha256(self._head.replace(declared, _ZEROS.encode()))
        self._file.seek(len(self._head))
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        if digest.hexdigest().encode() != declared:
            raise ValueError(
                f"{self.path} is damaged: its bytes are not those that its checksum was made of; "
                "take another copy."
            )

    def read(self, into: Mapping[str, NDArray[Any]] | None = None) -> dict[str, NDArray[Any]]:
        """Read all arrays.

        Parameters
        ----------
        into : dict of str to numpy.ndarray, optional
            Where to put some of them: contiguous arrays of the declared shape and dtype.

        Returns
        -------
        dict of str to numpy.ndarray
            Every array by its name; those of `into` are the same objects.

        Raises
        ------
        ValueError
            The file has become shorter.
        """
        self._file.seek(len(self._head))
        arrays = {}
        for name, (dtype, shape, start, stop, halves) in self.arrays.items():
            array = into[name] if into and name in into else np.empty(shape, dtype)
            if start < stop:
                upper = np.empty(shape, "<u2") if halves else None
                piece = _bytes(array if upper is None else upper)
                if _fill(self._file, piece) < len(piece):
                    raise ValueError(f"{self.path} is truncated: it ends inside {name!r}.")
                if upper is not None:
                    array[...] = (upper.astype("uint32") << 16).view("float32")
            arrays[name] = array
        return arrays


def _bytes(array: NDArray[Any]) -> memoryview:
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _fill(file: io.BufferedReader, piece: memoryview) -> int:
    done = 0
    while done < len(piece) and (got := file.readinto(piece[done:])):
        done += got
    return done
