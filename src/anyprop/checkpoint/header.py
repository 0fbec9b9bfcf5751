"""What the header of a safetensors file claims, and whether it can be so.

Nothing in a header is believed: names come once, numbers are numbers, and arrays fill the file exactly
before memory is taken for one of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from anyprop._checks import few
from anyprop._files import exceeds_memory
from anyprop._typing import Shape

METADATA = "__metadata__"
_DEEPEST_JSON = 200  # far from where recursion ends, in whatever works on the value later
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}
_BFLOAT16 = "BF16"  # read as float32, whose upper half it is; NumPy has none of its own
STORED = frozenset(map(np.dtype, _DTYPES.values()))
"""NumPy's dtypes that a file can hold."""


class Declared(NamedTuple):
    """What a header says of one array; `start` and `stop` are bytes behind the header."""

    dtype: np.dtype[Any]
    shape: Shape
    start: int
    stop: int
    halves: bool = False  # whether only the upper half of each float32 is there: a bfloat16


def parse(header: bytes, size: int) -> tuple[dict[str, Declared], dict[str, str]]:
    """Read a header, which so many bytes follow: the arrays in the file's order, and the metadata.

    Raises
    ------
    ValueError
        It contradicts itself or the file.
    """
    if header[:1] != b"{":
        raise ValueError("its header does not begin with a brace.")
    try:
        content = strict_json(header.decode())
    except UnicodeDecodeError:
        raise ValueError("its header is no UTF-8 text.") from None
    metadata = content.pop(METADATA, {})
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
    if exceeds_memory(shape, dtype.itemsize):
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
    """Read JSON in which no name comes twice, every number is one, and nothing is nested deeply."""
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
