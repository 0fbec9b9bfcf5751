"""The files and folders that commands write."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from anyprop._files import whole_file, write_whole
from anyprop._locks import locked
from anyprop.cli._parser import WrongCallError


def make_folder(name: str, held: ExitStack) -> Path:
    """Create the folder for the results, and be the only one to write there until `held` is closed."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        held.enter_context(locked(folder))
    except OSError as error:
        raise WrongCallError(f"cannot write into {folder}: {error.strerror}") from None
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that other programs can read too, which means without NaN and infinity."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_picture(path: Path, figure: Any) -> None:
    """Write a figure of Matplotlib as a file; an older one stays until the new one is whole."""
    with whole_file(path) as part:
        figure.savefig(part, dpi=120)


def write_text(path: Path, text: str) -> None:
    """Write a file; an older one stays until the new one is whole. An OSError names the file."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            path.write_text(text, encoding="utf-8")
        else:
            write_whole(path, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise


def check_apart(name: str, others: Iterable[str], what: str) -> None:
    """Raise WrongCallError if a file to be written is one of others, which the command `what`."""
    for other in others:
        if Path(name).resolve() == Path(other).resolve():
            raise WrongCallError(
                f"{name} is a file that this command {what}; name another to write"
            )


def check_writable(path: Path) -> None:
    """Raise OSError now, and not after minutes, if the file cannot be written; leave nothing there."""
    if path.exists():
        with path.open("ab"):
            pass
    else:
        path.touch()
        path.resolve().unlink()  # not a link to it, which should stay
