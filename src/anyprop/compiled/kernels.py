"""Loops compiled by numba, kept on disk for the next process.

numba is an extra, anyprop[fast]; without it, or where it does not work, there are no kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class NoKernelError(RuntimeError):
    """A loop cannot be compiled here."""


def get_kernel(source: str, examples: Sequence[Any]) -> Callable[..., None]:
    """Compile a loop.

    Parameters
    ----------
    source : str
        A Python module with a function `kernel`.
    examples : sequence of arrays and numbers
        Arguments of the types that it will be called with.

    Returns
    -------
    callable
        The compiled function; it runs without holding the interpreter's lock.

    Raises
    ------
    NoKernelError
        numba is not installed, or does not work here.
    """
    if not _installed():
        raise NoKernelError("numba is not installed")
    try:
        kernel: Callable[..., None] = _kernel(source)
        kernel.compile(tuple(map(importlib.import_module("numba").typeof, examples)))  # type: ignore[attr-defined]
    except Exception as error:  # a broken installation can raise anything
        raise NoKernelError(str(error)) from error
    return kernel


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.lru_cache(maxsize=256)
def _kernel(source: str) -> Any:
    numba = importlib.import_module("numba")
    # numba tells what it has compiled apart by module and name.
    name = f"kernel_{hashlib.sha256(source.encode()).hexdigest()[:24]}"
    source = source.replace("def kernel(", f"def {name}(")
    path = _source_file(name, source)
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, str(path or f"<{name}>"), "exec"), scope)
    options = {"nogil": True, "error_model": "numpy"}
    return numba.njit(cache=path is not None, **options)(scope[name])


def _source_file(name: str, source: str) -> Path | None:
    """Write the source where numba can keep what it compiles beside it; None if that is impossible."""
    path = _folder() / f"{name}.py"
    with contextlib.suppress(OSError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                file.write(source)
            os.replace(file.name, path)
        if os.access(path.parent, os.W_OK):
            return path
    return None


def _folder() -> Path:
    """Find the folder for compiled loops: NUMBA_CACHE_DIR, or the user's own for such files."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen) / "anyprop"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(base).expanduser() / "anyprop"
