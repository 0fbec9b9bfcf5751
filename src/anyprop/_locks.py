"""One writer in a folder at a time.

A process holds a lock of the operating system on a file there. The lock ends with the process,
however that ends, so what a killed process leaves behind locks nothing: the next one takes over the
file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_NAME = ".anyprop-lock"
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one to write into a folder, which exists, inside the context.

    Where the platform or the file system knows no locks, this does nothing.

    Raises
    ------
    ValueError
        Another run, of this process or another, has the folder; the message names the process.
    OSError
        The folder cannot be written into.
    """
    path = folder / _NAME
    file = _locked_file(path)
    try:
        if file is not None:
            with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
                os.ftruncate(file, 0)
                os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):  # the folder may be gone
                path.unlink()  # before another can lock it
            os.close(file)


def _locked_file(path: Path) -> int | None:
    """Open and lock the file; None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, file):
                return file
            os.close(file)  # the one before has just removed it
        except OSError as error:
            holder = os.pread(file, 200, 0).decode(errors="replace")
            os.close(file)
            if error.errno not in _HELD:
                path.unlink(missing_ok=True)
                return None
            raise ValueError(
                f"another run is writing into {path.parent} ({holder or 'a process'}): wait until "
                "it ends, or choose another folder."
            ) from None


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
