"""The examples that `--data` names: MNIST, or files of IDX or of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from anyprop._foreign import HEAD, foreign
from anyprop._typing import Array, Device, Namespace
from anyprop.backend import from_host, to_host
from anyprop.cli._parser import WrongCallError
from anyprop.data import load_idx, load_mnist
from anyprop.data.arrays import Rows, is_data_folder, load_arrays, load_inputs as load_rows
from anyprop.sources import Source

Examples: TypeAlias = tuple[Array, Array] | Source
"""Images as rows, (N, D), and their labels, (N,): in memory, or read from mapped files."""

_FOUR = "x_train, y_train, x_test and y_test"
TAKES = f"an .npz file with {_FOUR}, or a folder with these as .npy files or with four IDX files"
"""What `--data` takes besides mnist."""

ONE_FILE = "one .npy or IDX file of images"
"""What that of `anyprop predict` takes besides."""

_ARRAY, _ARCHIVE = "an array of NumPy", "an .npz archive of NumPy"
_IDX_FILE = "an IDX file of data"
_GZIP = "a gzip file"
_IDX = "*-ubyte*"
_PICTURES = ("a PNG picture", "a JPEG picture")


class Data(NamedTuple):
    """What `--data` names, the length of a row, and one more than the largest label."""

    train: Examples
    test: Examples
    width: int
    classes: int


class Inputs(NamedTuple):
    """What is to be predicted: examples as rows, (N, D)."""

    x: Array | Source
    labels: Any  # what they are in NumPy, (N,), or None
    shape: tuple[int, int]


def load_data(name: str, xp: Namespace, device: Device, dtype: str) -> Data:
    """Load the examples for training and for testing that `--data` names."""
    path = Path(name)
    if not _holds_arrays(path):
        images = _load_images(name, xp, device, dtype)
        classes = 1 + max(int(xp.max(t)) for _, t in images)
        return _checked(name, Data(*images, images[0][0].shape[1], classes))
    parts = [load_arrays(path, part, dtype) for part in ("train", "test")]
    widths = [rows.width for rows in parts]
    if widths[0] != widths[1]:
        raise WrongCallError(
            f"{name} has rows of {widths[0]} numbers in x_train, but of {widths[1]} in x_test; expected "
            "as many in both"
        )
    kinds = {rows.x.dtype.kind for rows in parts}
    if len(kinds) > 1:
        raise WrongCallError(
            f"{name} has {parts[0].x.dtype} in x_train, but {parts[1].x.dtype} in x_test; expected both "
            "of uint8, which are divided by 255, or both of floats, which are taken as they are"
        )
    classes = 1 + max(int(rows.t.max()) for rows in parts)
    train, test = (_examples(rows, path, xp, device) for rows in parts)
    return _checked(name, Data(train, test, widths[0], classes))


def _checked(name: str, data: Data) -> Data:
    if data.classes == 1:
        raise WrongCallError(f"all labels of {name} are 0, so there is nothing to learn")
    n = examples(data.train) + examples(data.test)
    if data.classes > n:
        raise WrongCallError(
            f"the labels of {name} go up to {data.classes - 1}, beyond its {n} examples; number "
            "the classes from 0 on"
        )
    return data


def _examples(rows: Rows, path: Path, xp: Namespace, device: Device) -> Examples:
    if path.is_dir():
        return Source(rows)
    x, t = rows[:]
    return from_host(x, xp, device=device), from_host(t, xp, device=device)


def _load_images(
    name: str, xp: Namespace, device: Device, dtype: str
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    if name == "mnist":
        return load_mnist(xp=xp, dtype=dtype, device=device)
    return load_idx(_idx_folder(name), xp=xp, dtype=dtype, device=device)


def load_inputs(name: str, xp: Namespace, device: Device, dtype: str) -> Inputs:
    """Load the examples for testing that `--data` names, or those of one file."""
    path = Path(name)
    if _holds_arrays(path):
        rows = load_arrays(path, "test", dtype)
        return Inputs(Source(rows), rows.t, (len(rows), rows.width))
    if not path.is_file():
        x, t = _load_images(name, xp, device, dtype)[1]
        return Inputs(x, to_host(t), x.shape)
    kind = _kind(path)
    if kind in _PICTURES:
        raise WrongCallError(f"{name} is {kind}; to have its digit read, write --image {name}")
    if kind not in (None, _ARRAY, _IDX_FILE, _GZIP):
        raise WrongCallError(f"{name} is {kind}; --data takes mnist, {TAKES}, or {ONE_FILE}")
    rows = load_rows(path, dtype)
    return Inputs(Source(rows), None, (len(rows), rows.width))


def files_of(name: str) -> list[str]:
    """List the files that hold the data set that `--data` names."""
    path = Path(name)
    if name == "mnist" or not path.is_dir():
        return [name] * (name != "mnist")
    return [str(file) for pattern in ("*.npy", _IDX) for file in path.glob(pattern)]


def examples(data: Examples) -> int:
    """Return the number of examples."""
    return len(data) if isinstance(data, Source) else data[0].shape[0]


def split(data: Examples, n: int) -> tuple[Examples, Examples]:
    """Return the first n examples, and the others."""
    if isinstance(data, Source):
        return Source(data.data.part(slice(n))), Source(data.data.part(slice(n, None)))
    x, t = data
    return (x[:n, ...], t[:n]), (x[n:, ...], t[n:])


def _holds_arrays(path: Path) -> bool:
    if path.is_dir():
        return is_data_folder(path) or (_holds(path, "*.npy") and not _holds(path, _IDX))
    return path.is_file() and (path.suffix == ".npz" or _kind(path) == _ARCHIVE)


def _idx_folder(name: str) -> Path:
    """Return the path of a folder that holds IDX files; say what there is instead."""
    path = Path(name)
    if path.is_dir():
        if _holds(path, _IDX):
            return path
        inside = [*path.glob("*.npz")]
        for below in ("*", "*/*"):
            for file in ("x_train.npy", _IDX):
                inside += [found.parent for found in path.glob(f"{below}/{file}")]
        hint = f"; did you mean {inside[0]}?" if inside else ""
        raise WrongCallError(f"{name} holds no data set: --data takes {TAKES}{hint}")
    if not path.exists():
        raise WrongCallError(f"there is no folder or file {name!r}; --data takes mnist, {TAKES}")
    kind = _kind(path)
    if kind in (_ARRAY, _IDX_FILE):
        raise WrongCallError(f"{name} is {kind}; name the folder with all four files instead")
    what = f"{name!r} is no folder" if kind is None else f"{name} is {kind}"
    table = "; a table goes to anyprop.sklearn or anyprop.fit" if path.is_file() else ""
    raise WrongCallError(f"{what}; --data takes mnist, {TAKES}{table}")


def _holds(folder: Path, pattern: str) -> bool:
    return any(folder.glob(pattern))


def _kind(path: Path) -> str | None:
    """Name what a file is, where its first bytes say so."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        kind = foreign(file.read(HEAD))
    return None if kind is None else kind.name
