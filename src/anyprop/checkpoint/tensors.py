"""Arrays by name in files of the safetensors format, written and read by its own library.

    8 bytes    length n of the header, unsigned, little-endian
    n bytes    {"__metadata__": {"key": "text", ...},
                "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    rest       the arrays in C order, little-endian

    checksum   in the metadata: SHA-256 of the whole file with zeros in place of the checksum's digits

What the library does not do is done here and in `anyprop.checkpoint.header`. Its version 0.8 accepts a
header in which a name comes twice, and one of 100 MB, so a header is checked before the library sees it;
it verifies no numbers, which the checksum does; it writes metadata in an order that differs from run to
run, and files that only their owner may read; it makes a new array of whatever it reads, which would be
twice the memory where there is a vector to read into; and it has no bfloat16 for NumPy. It is imported
where there is a file: training alone does not need it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from io import BufferedRandom
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._files import existing_file, whole_file
from anyprop._foreign import HEAD, foreign
from anyprop.checkpoint.header import STORED, parse

HEADER_LIMIT = 1 << 20
"""Bytes that a header may have at most: to parse it takes some 30 times as many."""
_TOO_LARGE = (
    "the names and the configuration together are larger than what a file keeps, at most "
    f"{HEADER_LIMIT} beside its arrays; save less as config."
)

CHECKSUM = "checksum"
_ZEROS = "0" * 64
_PAIR = re.compile(rb'"(?:[^"\\]++|\\.)*+":"(?:[^"\\]++|\\.)*+"')  # two texts of a JSON object


def write(
    path: str | PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write a file as `whole_file` does; the checksum is added to the metadata.

    Raises
    ------
    TypeError
        An array is of a dtype that the format does not know.
    ValueError
        The header would be longer than a reader accepts.
    OSError
        The file cannot be written; an older one is still there.
    """
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in STORED:
            raise TypeError(f"{name} is {array.dtype}, which no file can hold; cast it to float32.")
    # The library takes an array's memory as it is, whatever its strides.
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with whole_file(path) as part:
        _save(arrays, part, {CHECKSUM: _ZEROS, **metadata})
        with part.open("r+b") as file:
            _finish(file)


def _save(arrays: dict[str, NDArray[Any]], path: Path, metadata: dict[str, str]) -> None:
    """Write a file by the library; its errors tell only in words which are the system's."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(arrays, path, metadata)
    except SafetensorError as error:
        system = re.search(r"([^:]*) \(os error (\d+)\)", str(error))
        if "header too large" in str(error):
            raise ValueError(_TOO_LARGE) from None
        if system is None:
            raise ValueError(f"this cannot be written to a file: {error}.") from None
        raise OSError(int(system[2]), system[1].strip()) from None


def _finish(file: BufferedRandom) -> None:
    """Put metadata in order, so that what is equal gives the same bytes, and the checksum in place."""
    n = int.from_bytes(file.read(8), "little")
    if n > HEADER_LIMIT:
        raise ValueError(_TOO_LARGE)
    header = file.read(n)
    pairs, start = [], header.index(b":{") + 2
    end = start - 1
    while pair := _PAIR.match(header, end + 1):
        pairs.append(pair[0])
        end = pair.end()
    header = header[:start] + b",".join(sorted(pairs)) + header[end:]
    file.seek(8)
    file.write(header)
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(8 + header.index(f'"{CHECKSUM}":"{_ZEROS}"'.encode()))
    file.write(f'"{CHECKSUM}":"{digest}"'.encode())


class Reader:
    """An open file whose header has been read and found consistent; used as a context.

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
        from safetensors import SafetensorError, safe_open

        self.path = existing_file(path, "a safetensors file")
        with ExitStack() as held:
            self._file = held.enter_context(self.path.open("rb"))
            found = os.fstat(self._file.fileno())
            try:
                self._head = self._read_head(found.st_size)
                self.arrays, self.metadata = parse(self._head[8:], self._size)
                # By "mmap" a file that becomes shorter would end the process.
                opened = safe_open(self.path, framework="numpy", backend="pread")
            except (ValueError, SafetensorError) as error:
                self._file.seek(0)
                kind = foreign(self._file.read(HEAD))
                raise ValueError(
                    f"{self.path} is no safetensors file, or is truncated: {error}"
                    if kind is None
                    else f"{self.path} is no safetensors file but {kind.name}; {kind.instead}."
                ) from None
            self._library = held.enter_context(opened)
            # The library opens a name, which may have become that of another file.
            if not os.path.samestat(found, self.path.stat()):
                raise ValueError(f"{self.path} was replaced while it was opened; read it again.")
            self._held = held.pop_all()

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
        self._held.close()

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
        hashlib.file_digest(self._file, lambda: digest)
        if digest.hexdigest().encode() != declared:
            raise ValueError(
                f"{self.path} is damaged: its bytes are not those that its checksum was made of; "
                "take another copy."
            )

    def read(self, into: Mapping[str, NDArray[Any]] | None = None) -> dict[str, NDArray[Any]]:
        """Read all arrays by name; raise ValueError if the file has become shorter.

        Some may be read `into` contiguous arrays of the declared shapes and dtypes, which are returned.
        """
        from safetensors import SafetensorError

        arrays = {}
        for name, declared in self.arrays.items():
            try:
                if declared.halves:
                    upper = self._fill(np.empty(declared.shape, "<u2"), declared.start)
                    arrays[name] = np.asarray((upper.astype("<u4") << 16).view("<f4"))
                elif into and name in into:
                    arrays[name] = self._fill(into[name], declared.start)
                else:
                    arrays[name] = self._library.get_tensor(name)
            except (EOFError, SafetensorError):
                raise ValueError(f"{self.path} is truncated: it ends inside {name!r}.") from None
        return arrays

    def _fill(self, array: NDArray[Any], start: int) -> NDArray[Any]:
        """Fill an array with the bytes from `start` on, counted behind the header."""
        flat: Any = array.reshape(-1).view(np.uint8)
        self._file.seek(len(self._head) + start)
        if self._file.readinto(flat) < array.nbytes:
            raise EOFError
        return array
