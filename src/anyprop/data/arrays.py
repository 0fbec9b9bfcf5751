"""Data sets of four NumPy arrays, x_train, y_train, x_test and y_test, in one archive or a folder."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._foreign import HEAD, but_foreign
from anyprop._text import printable
from anyprop.data._prepare import check_class_numbers, scaled
from anyprop.data.idx import read_idx
from anyprop.data.npy import is_npy, map_npy, read_npy

_ROWS_AT_ONCE = 2000
_NAMES = ("x_train", "y_train", "x_test", "y_test")
_ALL = f"{', '.join(_NAMES[:-1])} and {_NAMES[-1]}"
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(OverflowError, UnicodeDecodeError, struct.error, OSError),
)


@dataclass(frozen=True)
class Rows:
    """Examples as they are stored, of which those that are asked for are converted.

    ``rows[indices]`` is (x, t) of the rows of a slice or a vector: x, (n, D), pixels of uint8 divided by
    255 and floats as they are, and t, (n,) int64.

    Parameters
    ----------
    x : numpy.ndarray of uint8 or floats, (N, ...)
        A row or an image for each example, finite in `dtype`.
    t : numpy.ndarray of whole numbers >= 0, (N,)
        Class numbers.
    dtype : {"float32", "float16", "float64"}
        What x is converted to.
    """

    x: NDArray[Any]
    t: NDArray[Any]
    dtype: str

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        x = scaled(self.x[rows], self.dtype)
        return x.reshape(len(x), self.width), self.t[rows].astype("i8")

    @property
    def width(self) -> int:
        """D, the length of a row."""
        return math.prod(self.x.shape[1:])

    def part(self, rows: slice) -> Rows:
        """Return some of the examples, not converted."""
        return Rows(self.x[rows], self.t[rows], self.dtype)


def load_arrays(path: Path, part: str, dtype: str) -> Rows:
    """Load one part, "train" or "test", of a data set of four arrays.

    They are in an .npz archive with x_train, y_train, x_test and y_test, as Keras publishes MNIST, or in
    a folder with x_train.npy and so on, which are mapped into memory. The part's x is of uint8, pixels,
    or of floats, with a row or an image for each example, and y holds class numbers of any whole dtype,
    (N,) or (N, 1). Floats are read once, to see that they are finite in `dtype`.

    Raises
    ------
    FileNotFoundError
        There is no such archive, or one of the four arrays is missing.
    ValueError
        It is not whole, one of the arrays holds something else, or they do not fit together.
    """
    (x_name, x), (y_name, y) = _read_part(path, part)
    _check_inputs(x, x_name)
    t = _labels(y, y_name)
    if len(x) != len(t):
        raise ValueError(
            f"{x_name} holds {len(x)} examples, but {y_name} holds {len(t)} labels; "
            "expected one label for each example."
        )
    _check_finite(x, x_name, dtype)
    return Rows(x, t, dtype)


def load_inputs(path: Path, dtype: str) -> Rows:
    """Load one IDX or .npy file of examples, without labels: their class numbers are 0."""
    x = map_npy(path) if is_npy(path) else read_idx(path)
    _check_inputs(x, str(path))
    _check_finite(x, str(path), dtype)
    return Rows(x, np.broadcast_to(np.int64(0), len(x)), dtype)


def is_data_folder(path: Path) -> bool:
    """Return whether a folder has at least one of the four files."""
    return any((path / f"{name}.npy").is_file() for name in _NAMES)


def _check_inputs(x: NDArray[Any], name: str) -> None:
    if x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"{name} holds {x.shape} {x.dtype}; expected one row or image for each example: (N, D), "
            "(N, H, W) or (N, H, W, C)."
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(
            f"{name} holds {x.shape} {x.dtype}; save pixels as uint8, which are divided by 255, and "
            "other numbers as float32, which are taken as they are."
        )


def _check_finite(x: NDArray[Any], name: str, dtype: str) -> None:
    if x.dtype.kind != "f":
        return
    for start in range(0, len(x), _ROWS_AT_ONCE):
        some = x[start : start + _ROWS_AT_ONCE]
        bad = np.argwhere(~np.isfinite(scaled(some, dtype)))
        if bad.size:
            value = some[tuple(bad[0])]
            raise ValueError(
                f"{name} holds {value} in row {start + bad[0][0]}, which is no finite {dtype}; remove "
                "or replace such numbers."
            )


def _labels(y: NDArray[Any], name: str) -> NDArray[Any]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]  # as Keras has those of CIFAR
    if y.dtype.kind not in "iu" or y.ndim != 1 or y.size == 0:
        instead = ""
        if y.ndim == 2:
            instead = "; of rows with a single one take argmax(axis=1)"
        elif y.dtype.kind == "f" and not (y == np.trunc(y)).all():
            instead = (
                "; other numbers are learnt by anyprop.fit with a loss such as MeanSquaredError"
            )
        elif y.dtype.kind in "fb":
            instead = "; convert them by astype('int64')"
        elif y.dtype.kind in "US":
            instead = "; number them by numpy.unique(y, return_inverse=True)[1]"
        raise ValueError(
            f"{name} holds {y.shape} {y.dtype}; expected class numbers of a whole dtype, (N,) or "
            f"(N, 1){instead}."
        )
    check_class_numbers(y, name)
    return y


def _read_part(path: Path, part: str) -> list[tuple[str, NDArray[Any]]]:
    """Return x and y of a part as they are stored, each after what messages call it."""
    names = (f"x_{part}", f"y_{part}")
    if not path.is_dir():
        return _read_npz(path, names)
    _check_names(path, {file.stem for file in path.glob("*.npy")}, ".npy")
    return [(str(file), map_npy(file)) for file in (path / f"{name}.npy" for name in names)]


def _check_names(path: Path, found: set[str], suffix: str) -> None:
    for name in _NAMES:
        if name not in found:
            others = ", ".join(f"{other}{suffix}" for other in sorted(found)[:10])
            holds = f"{printable(others)}, but " if found else ""
            raise FileNotFoundError(f"{path} holds {holds}no {name}{suffix}; expected {_ALL}.")


def _read_npz(path: Path, names: tuple[str, str]) -> list[tuple[str, NDArray[Any]]]:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.startswith(b"PK"):
        raise ValueError(f"{path} is no .npz archive{but_foreign(head)}; write it by numpy.savez.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            found = {name.removesuffix(".npy") for name in members if name.endswith(".npy")}
            _check_names(path, found, "")
            return [_read_member(archive, members[f"{name}.npy"], path) for name in names]
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as an .npz archive ({printable(str(error))}); fetch the file "
            "again, or write it by numpy.savez."
        ) from error


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path
) -> tuple[str, NDArray[Any]]:
    name = f"{member.filename.removesuffix('.npy')} of {path}"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError(f"{member.filename} is compressed by another method than deflate")
    with archive.open(member) as stream:
        return name, read_npy(stream, name, member.file_size)
