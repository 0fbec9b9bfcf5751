"""Files that appear under their names only when they are whole and safe on the disk."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from os import PathLike
from pathlib import Path


def as_path(path: str | PathLike[str], name: str = "path") -> Path:
    """Return a path as a `Path`; raise TypeError if it is not one."""
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"{name} must be a str or a pathlib.Path, not {path!r}.")
    return Path(path)


def check_folder(path: Path) -> None:
    """Raise FileNotFoundError unless there is a folder for a file to be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {path.parent} to write {path.name} into; create it first."
        )


def write_whole(path: str | PathLike[str], pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file; an older one is replaced in one moment, when the new one is complete.

    Parameters
    ----------
    path : str or path
        The file.
    pieces : iterable of bytes
        Its contents, one piece after another.

    Raises
    ------
    OSError
        The file cannot be written; an older one is still there, and nothing else.
    """
    path = as_path(path)
    check_folder(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            # The name of the part would tell the user nothing.
            error.filename, error.filename2 = str(path), None
        raise
    with contextlib.suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_parts(folder: str | PathLike[str], name: str = "*") -> None:
    """Remove what killed processes have left of files called `name`, a pattern for `glob`."""
    for part in Path(folder).glob(f".{name}.{'[0-9a-f]' * 8}"):
        part.unlink(missing_ok=True)
