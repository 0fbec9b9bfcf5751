"""The safetensors format: a header in JSON, and behind it the numbers of all arrays without gaps.

    8 bytes    length n of the header, unsigned, little-endian
    n bytes    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...,
                "__metadata__": {"key": "text", ...}}
    rest       the arrays in C order, little-endian

    checksum   in the metadata: SHA-256 of the whole file with zeros in place of the checksum's digits

The format is small, and what a checkpoint needs goes beyond its usual library: a checksum over every
byte, memory that no header can inflate, names that cannot come twice, arrays that are written right
whatever their order in memory, and files that appear whole or not at all. Nothing in a header is
believed: arrays must fill the file exactly before memory is taken for one of them.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from anyprop._checks import few
from anyprop._files import as_path, write_whole
from anyprop._typing import Shape

HEADER_LIMIT = 1 << 20
"""Bytes that a header may have at most: to parse it takes some 30 times as many."""

CHECKSUM = "checksum"
_METADATA = "__metadata__"
_ZEROS = "0" * 64
_DEEPEST_JSON = 200  # far from where recursion ends, in whatever works on the value later
_CHUNK = 1 << 16
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}
_BFLOAT16 = "BF16"  # read as float32, whose upper half it is; NumPy has none of its own
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}


class Declared(NamedTuple):
    """What a header says of one array.

    Parameters
    ----------
    dtype : numpy.dtype
        Type of its numbers; float32 for bfloat16.
    shape : tuple of int
        Its shape.
    start, stop : int
        Where it begins and ends, in bytes behind the header.
    halves : bool
        Whether the file holds only the upper half of each float32, which is a bfloat16.
    """

    dtype: np.dtype[Any]
    shape: Shape
    start: int
    stop: int
    halves: bool = False


def write(
    path: str | PathLike[str], arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write a file, which appears under its name only when it is whole and safe on the disk.

    Parameters
    ----------
    path : str or path
        The file; an older one is replaced.
    arrays : dict of str to numpy.ndarray
        What it shall hold.
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
        code = _CODES.get(array.dtype.newbyteorder("<"))
        if code is None:
            raise TypeError(f"{name} is {array.dtype}, which no file can hold; cast it to float32.")
        stop = start + array.nbytes
        declared[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    header = json.dumps({_METADATA: {CHECKSUM: _ZEROS, **metadata}, **declared}).encode()
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
            self.arrays, self.metadata = _parse(self._head[8:], self._size)
        except ValueError as error:
            self._file.close()
            raise ValueError(
                f"{self.path} is no safetensors file, or is truncated: {error}"
            ) from None
        except BaseException:
            self._file.close()
            raise

    def _read_head(self, size: int) -> bytes:
        length = self._file.read(8)
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


def _parse(header: bytes, size: int) -> tuple[dict[str, Declared], dict[str, str]]:
    """Read a header; `size` bytes follow it."""
    if header[:1] != b"{":
        raise ValueError("its header does not begin with a brace.")
    try:
        content = strict_json(header.decode())
    except UnicodeDecodeError:
        raise ValueError("its header is no UTF-8 text.") from None
    metadata = content.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its metadata are not texts by name.")
    declared = {name: _declared(name, entry) for name, entry in content.items()}
    arrays = dict(sorted(declared.items(), key=lambda item: (item[1].start, item[1].stop)))
    end = 0
    for name, entry in arrays.items():
        if entry.start != end:
            raise ValueError(f"{_short(name)} begins at byte {entry.start}, expected {end}.")
        end = entry.stop
    if end != size:
        raise ValueError(f"its header declares {end} bytes of arrays, but {size} follow.")
    return arrays, metadata


def _declared(name: str, entry: Any) -> Declared:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"its header does not say of {_short(name)} its dtype, shape and place.")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in {*_DTYPES, _BFLOAT16}:
        raise ValueError(
            f"{_short(name)} has dtype {_short(code)}; those that can be read are "
            f"{', '.join([*_DTYPES, _BFLOAT16])}."
        )
    if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2 or len(shape) > 64:
        raise ValueError(f"the shape or the place of {_short(name)} is none.")
    halves, (start, stop) = code == _BFLOAT16, offsets
    dtype = np.dtype("<f4" if halves else _DTYPES[code])
    stored = dtype.itemsize // 2 if halves else dtype.itemsize
    # NumPy refuses a shape by its nonzero sizes alone, so an empty array can be too large as well.
    if math.prod(max(n, 1) for n in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"{_short(name)} would be larger than any memory.")
    if stop - start != math.prod(shape) * stored:
        raise ValueError(
            f"{_short(name)} has the shape {tuple(shape)} and takes bytes {start} to {stop}, "
            "which do not go together."
        )
    return Declared(dtype, tuple(shape), start, stop, halves)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in values)


def _short(name: object) -> str:
    return few([name])


def strict_json(text: str) -> Any:
    """Read JSON in which no name comes twice, every number is one, and nothing is nested deeply.

    Raises
    ------
    ValueError
        This is no such text.
    """
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"it holds no JSON where it should ({error}).") from None
    except RecursionError:
        raise ValueError("it holds JSON that is nested too deeply.") from None
    level = [value]
    for _ in range(_DEEPEST_JSON):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError("it holds JSON that is nested too deeply.")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"the name {_short(name)} comes twice.")
        content[name] = value
    return content


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number.")
