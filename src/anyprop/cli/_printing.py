"""Standard output and error as commands write to them: a console that refuses text loses no work."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Console:
    """A text stream that accepts every text, and keeps the first error instead of raising it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                code = self._stream.encoding
                self.write(text.encode(code, "replace").decode(code))
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self.error = error

    def refused(self) -> bool:
        """Return whether text that was wanted is lost: what a closed pipe refuses was not wanted."""
        self.flush()
        return self.error is not None and self.error.errno != errno.EPIPE

    def abandon(self) -> None:
        """Discard what is still buffered, as Python flushes once more when it ends."""
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def safe_printing() -> Iterator[Console]:
    """Guard both streams inside the context; the output stream knows afterwards what went wrong."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # None is a closed stream
        out, err = (Console(nowhere if stream is None else stream) for stream in before)
        sys.stdout, sys.stderr = out, err
        try:
            yield out
        finally:
            if out.refused() and out.error is not None:
                print(f"anyprop: cannot print: {out.error.strerror}.", file=err)
            err.flush()
            sys.stdout, sys.stderr = before
            for console in (out, err):
                if console.error is not None:
                    console.abandon()
