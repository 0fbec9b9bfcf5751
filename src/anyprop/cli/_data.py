"""The examples that `--data` names: MNIST, or files of IDX or of NumPy."""

from __future__ import annotations

from pathlib import Path

from anyprop._foreign import HEAD, foreign
from anyprop._typing import Array, Device, Namespace
from anyprop.cli._parser import WrongCallError
from anyprop.data import load_idx, load_mnist
from anyprop.data.arrays import is_data_folder, load_arrays, load_inputs

Examples = tuple[Array, Array]
"""Images as rows, (N, D), and their labels, (N,)."""

_FOUR = "x_train, y_train, x_test and y_test"
TAKES = f"an .npz file with {_FOUR}, or a folder with these as .npy files or with four IDX files"
"""What `--data` takes besides mnist."""

_ARRAY, _ARCHIVE = "an array of NumPy", "an .npz archive of NumPy"
_IDX_FILE = "an IDX file of data"
_IDX = "*-ubyte*"
_PICTURES = ("a PNG picture", "a JPEG picture")


def load_data(name: str, xp: Namespace, device: Device, dtype: str) -> tuple[Examples, Examples]:
    """Load the examples for training and for testing that `--data` names."""
    path = Path(name)
    if name == "mnist":
        train, test = load_mnist(xp=xp, dtype=dtype, device=device)
    elif _holds_arrays(path):
        train, test = (
            load_arrays(path, part, xp=xp, dtype=dtype, device=device) for part in ("train", "test")
        )
        if train[0].shape[1] != test[0].shape[1]:
            raise WrongCallError(
                f"{name} has rows of {train[0].shape[1]} numbers in x_train, but of "
                f"{test[0].shape[1]} in x_test; expected as many in both"
            )
    else:
        train, test = load_idx(_idx_folder(name), xp=xp, dtype=dtype, device=device)
    return train, test


def load_test_data(
    name: str, xp: Namespace, device: Device, dtype: str
) -> tuple[Array, Array | None]:
    """Load the rows for testing that `--data` names, or those of one file, and their labels or None."""
    path = Path(name)
    if _holds_arrays(path):
        return load_arrays(path, "test", xp=xp, dtype=dtype, device=device)
    if not path.is_file():
        return load_data(name, xp, device, dtype)[1]
    kind = _kind(path)
    if kind in _PICTURES:
        raise WrongCallError(f"{name} is {kind}; to have its digit read, write --image {name}")
    return load_inputs(path, xp=xp, dtype=dtype, device=device), None


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
