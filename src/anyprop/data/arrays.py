"""Data sets of four NumPy arrays, x_train, y_train, x_test and y_test, in one archive or a folder."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._foreign import HEAD, foreign
from anyprop._text import printable
from anyprop._typing import Array
from anyprop.backend import from_host
from anyprop.data._prepare import Examples, check_class_numbers, scaled
from anyprop.data.idx import read_idx
from anyprop.data.npy import is_npy, map_npy, read_npy

_NAMES = ("x_train", "y_train", "x_test", "y_test")
_ALL = f"{', '.join(_NAMES[:-1])} and {_NAMES[-1]}"
_MOST_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(OverflowError, UnicodeDecodeError, struct.error, OSError),
)


def load_arrays(path: Path, part: str, *, xp: Any, dtype: str, device: Any) -> Examples:
    """Load one part of a data set of four arrays.

    Parameters
    ----------
    path : Path
        An .npz archive with the arrays x_train, y_train, x_test and y_test, as Keras publishes
        MNIST, or a folder with x_train.npy and so on. The part's x is of uint8, pixels, or of floats,
        with a row or an image for each example, and y holds class numbers of any whole dtype.
    part : {"train", "test"}
        The part.
    xp : namespace or str or None
        Namespace of the arrays; NumPy for None.
    dtype : {"float32", "float16", "float64"}
        Type of x.
    device : str or device or None
        The namespace's default for None.

    Returns
    -------
    x, t : arrays
        Rows, (N, D), pixels divided by 255 and floats as they are, and labels, (N,) int64.

    Raises
    ------
    FileNotFoundError
        There is no such archive, or one of the four arrays is missing.
    ValueError
        It is not whole, one of the arrays holds something else, or they do not fit together.
    """
    (x_name, x), (y_name, y) = _read_part(path, part)
    labels = _labels(y, y_name)
    rows = _rows(x, x_name, dtype)
    if len(rows) != len(labels):
        raise ValueError(
            f"{x_name} holds {len(rows)} examples, but {y_name} holds {len(labels)} labels; "
            "expected one label for each example."
        )
    return from_host(rows, xp, device=device), from_host(labels, xp, device=device)


def load_inputs(path: Path, *, xp: Any, dtype: str, device: Any) -> Array:
    """Load one IDX or .npy file of examples as rows, (N, D), converted as those of a data set."""
    x = map_npy(path) if is_npy(path) else read_idx(path)
    return from_host(_rows(x, str(path), dtype), xp, device=device)


def is_data_folder(path: Path) -> bool:
    """Return whether a folder has at least one of the four files."""
    return any((path / f"{name}.npy").is_file() for name in _NAMES)


def _rows(x: NDArray[Any], name: str, dtype: str) -> NDArray[Any]:
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
    rows = scaled(x, dtype).reshape(len(x), -1)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        values = np.ravel(x[bad[0]])
        value = values[~np.isfinite(rows[bad[0]])][0]
        more = f" and {len(bad) - 1} further rows" if len(bad) > 1 else ""
        raise ValueError(
            f"{name} holds {value} in row {bad[0]}{more}, which is no finite {dtype}; remove or "
            "replace it."
        )
    return rows


def _labels(y: NDArray[Any], name: str) -> NDArray[Any]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]  # as Keras has those of CIFAR
    if y.dtype.kind not in "iu" or y.ndim != 1 or y.size == 0:
        instead = ""
        if y.ndim == 2:
            instead = "; of rows with a single one take argmax(axis=1)"
        elif y.dtype.kind in "fb":
            instead = "; convert them by astype('int64')"
        elif y.dtype.kind in "US":
            instead = "; number them by numpy.unique(y, return_inverse=True)[1]"
        raise ValueError(
            f"{name} holds {y.shape} {y.dtype}; expected class numbers of a whole dtype, (N,) or "
            f"(N, 1){instead}."
        )
    check_class_numbers(y, name)
    return y.astype("i8")


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
        kind = foreign(head)
        but = " but empty" if not head else "" if kind is None else f" but {kind.name}"
        raise ValueError(f"{path} is no .npz archive{but}; write it by numpy.savez.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            found = {name.removesuffix(".npy") for name in members if name.endswith(".npy")}
            _check_names(path, found, "")
            return [
                (f"{name} of {path}", _read_member(archive, members[f"{name}.npy"], path))
                for name in names
            ]
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read as an .npz archive ({printable(str(error))}); fetch the file "
            "again, or write it by numpy.savez."
        ) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    name = f"{member.filename.removesuffix('.npy')} of {path}"
    expansion = _MOST_EXPANSION.get(member.compress_type)
    if expansion is None:
        raise NotImplementedError(f"{member.filename} is compressed by another method than deflate")
    if member.file_size > member.compress_size * expansion:
        raise ValueError(
            f"{name} is damaged: {member.compress_size} bytes cannot hold the {member.file_size} that "
            "the archive declares; fetch the file again."
        )
    with archive.open(member) as stream:
        return read_npy(stream, name, member.file_size)
