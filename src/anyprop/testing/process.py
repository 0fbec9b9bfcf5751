"""A Python process that answers requests: whatever happens in it, the asking process goes on.

It reads a request from each line of its standard input and answers on a line of its standard output,
both JSON. `Answering` starts one and asks it; `serve` is what it runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# It imports what this process would import.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "


class EndedError(Exception):
    """The process has ended; the message says how.

    The code of a signal is negative. `complaint` is the last line of standard error, after a colon.
    """

    def __init__(self, code: int, complaint: str) -> None:
        super().__init__(_how(code) + complaint)
        self.code = code
        self.complaint = complaint


def started(
    code: str,
    *words: str,
    stdin: int,
    complaints: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start Python with a program and its arguments.

    Its standard error is written to the file `complaints`; `environment` is added to this process's.
    """
    with complaints.open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", _START + code, json.dumps(sys.path), *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            env=os.environ | dict(environment or {}),
            start_new_session=True,  # Ctrl-C is for the process that asks, and it ends this one
        )


class Answering:
    """A process that answers; its program, `code`, calls `serve`. Arguments are those of `started`."""

    def __init__(
        self,
        code: str,
        *words: str,
        complaints: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._complaints = complaints
        self._process = started(
            code, *words, stdin=subprocess.PIPE, complaints=complaints, environment=environment
        )

    def ask(self, *request: Any) -> tuple[str, Any]:
        """Send a request; return the kind and the value of the answer, or raise EndedError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EndedError(self._process.wait(), self._last())
        kind, answer = json.loads(line)
        return kind, answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _last(self) -> str:
        """Return the last line of the process's standard error, after a colon."""
        lines = self._complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1][:160].rstrip('.')}" if lines else ""


def serve(answer: Callable[..., tuple[str, Any]]) -> None:
    """Answer requests, given in parts, by a kind and a value, until standard input ends."""
    # What a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), file=answers, flush=True)


def _how(code: int) -> str:
    """Write how a process ended."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name} (exit code {128 - code})"
    except ValueError:
        return f"by signal {-code} (exit code {128 - code})"
