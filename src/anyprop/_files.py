"""Files: as they are found, and that appear under their names only when they are safe on the disk."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from anyprop._checks import few
from anyprop._typing import Shape

_CHUNK = 1 << 20
_SHOWN = 40
"""Characters, of at most four bytes each, of a file's name in that of its parts."""


def as_path(path: str | PathLike[str], name: str = "path") -> Path:
    """Return a path as a `Path`; raise TypeError if it is not one."""
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"{name} must be a str or a pathlib.Path, not {few([path])}.")
    return Path(path)


def existing_file(path: str | PathLike[str], expected: str) -> Path:
    """Return the path of a file; raise FileNotFoundError or ValueError if there is none."""
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; expected {expected}.")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file; expected {expected}.")
    return path


def read_bytes(stream: Any, n: int) -> bytearray:
    """Read so many bytes, or those that there are; memory is taken only as they arrive."""
    data = bytearray()
    while chunk := stream.read(min(_CHUNK, n - len(data))):
        data += chunk
    return data


def exceeds_memory(shape: Shape, itemsize: int) -> bool:
    """Return whether an array that a file declares is larger than any memory."""
    # NumPy refuses a shape by its nonzero sizes alone, so an empty array can be too large as well.
    return math.prod(max(n, 1) for n in shape) * itemsize > sys.maxsize


def check_folder(path: Path) -> None:
    """Raise FileNotFoundError or IsADirectoryError unless a file can have this place."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {path.parent} to write {path.name} into; create it first."
        )


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an OSError that does not, such as that of a full disk while writing."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def whole_file(path: str | PathLike[str]) -> Iterator[Path]:
    """Enter with a name to write a file under, which gets its own name, `path`, when it is complete.

    An older file is replaced in one moment, when the new one is on the disk. A symbolic link stays, and
    the file that it leads to is replaced.

    Raises
    ------
    OSError
        The file cannot be written; an older one is still there, and nothing else.
    """
    given = as_path(path)
    path = Path(os.path.realpath(given))
    for place in (given, path):
        check_folder(place)
    if path.exists() and not path.is_file():  # a device would become a file
        raise FileExistsError(f"{given} is not a regular file; name another to write.")
    # A folder, because a library that writes the file may write parts of its own beside it. Its name
    # begins as the file's, which may be as long as the system allows.
    folder = path.with_name(f".{path.name[:_SHOWN]}.{secrets.token_hex(4)}")
    try:
        folder.mkdir()
        usual = folder.stat().st_mode & 0o666  # what the process's umask leaves to a file
        folder.chmod(0o700)
        part = folder / path.name
        yield part
        part.chmod(0o600)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.chmod(usual)
        part.replace(path)
    except OSError as error:
        error.filename = str(given)  # the part's name would say nothing
        del error.filename2  # None would be shown
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # not every system can open a folder
        above = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(above)
        finally:
            os.close(above)


def write_whole(path: str | PathLike[str], content: bytes) -> None:
    """Write a file as `whole_file` does."""
    with whole_file(path) as part:
        part.write_bytes(content)


def remove_parts(folder: str | PathLike[str], *names: str) -> None:
    """Remove what killed processes have left of files called `names`, short patterns for `glob`.

    Only those that the caller alone writes: of another's files the parts may be on their way.
    """
    for name in names:
        for part in Path(folder).glob(f".{name}.{'[0-9a-f]' * 8}"):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
