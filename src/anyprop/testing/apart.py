"""Checks in a process of their own, which a library may end without taking what was found with it.

The process reads a request from each line of its standard input and answers on a line of its standard
output, both JSON. When it ends, the next check starts another one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from anyprop._checks import said
from anyprop.backend import BackendUnavailableError
from anyprop.testing.calls import Call
from anyprop.testing.check import Here, Library, choose
from anyprop.testing.checks import Check
from anyprop.testing.judging import RAISES, Fault
from anyprop.testing.programs import whole_program
from anyprop.testing.reproducer import write
from anyprop.testing.running import FAILED, NOT_RUN, Furthest, Outcome, watch
from anyprop.testing.snippets import Snippet

# Checks of a group that may end the process; each costs a start, so the rest is left out.
_MOST = 3
_SURVIVED = 88
_START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
_SERVE = "from anyprop.testing.apart import serve; serve(*sys.argv[1:])"


class EndedError(Exception):
    """The process has ended; the message tells how.

    Attributes
    ----------
    code : int
        Its exit code; that of a signal is negative.
    """

    def __init__(self, code: int, complaint: str) -> None:
        super().__init__(_how(code) + complaint)
        self.code = code


class Apart:
    """Runs checks in a process of its own.

    Parameters
    ----------
    name : str
        The library, as `namespace_named` takes it.
    device : str, optional
        Where to compute; the library's default by default.

    Raises
    ------
    ValueError
        There is no such namespace or device, or it cannot be used; or importing it ends the process.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        self._words = [name] if device is None else [name, device]
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None
        self._ended: Counter[str] = Counter()
        self.not_run: dict[str, str] = {}
        self.calls: Furthest = {}
        try:
            self.library = Library(**self._ask("library"))
        except EndedError as error:
            self.close()
            raise ValueError(f"importing {name} ends the process {error}.") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stop()
        self._folder.cleanup()

    def run(self, check: Check | Snippet) -> Outcome:
        """Run a check; if the process ends, find out whether it does when the check runs alone."""
        if self._ended[check.group] == _MOST:
            text = f"the process ended in {_MOST} others of its group."
            return Outcome(check.id, NOT_RUN, text=text)
        try:
            return self._run(check)
        except EndedError as error:
            self._ended[check.group] += 1
            if self._ended[check.group] > 1 and isinstance(check, Check):
                return Outcome(check.id, FAILED, text=f"the process ended {error}.")
            return self._looked_into(check, error)

    def ratio(self) -> float | None:
        """Time a training step, in those of NumPy; None if it fails."""
        try:
            found: float | None = self._ask("ratio")
        except EndedError:
            return None
        return found

    def _run(self, check: Check | Snippet) -> Outcome:
        found = self._ask("run", check.id)
        self.not_run |= found["not_run"]
        for name, distances in found["calls"].items():
            of_call = self.calls.setdefault(name, {})
            for dtype, ulps in distances.items():
                of_call[dtype] = max(of_call.get(dtype, 0.0), ulps)
        return Outcome(**found["outcome"])

    def _looked_into(self, check: Check | Snippet, ended: EndedError) -> Outcome:
        """Find the smallest program that ends a process as a check did."""
        if isinstance(check, Check):
            label, program = self._last_call(check)
            if program and self._ends(program, ended.code):
                text = f"{label} ends the process {ended}."
                return Outcome(check.id, FAILED, {}, text, label, program)
        program = self._ask("program", check.id)
        if self._ends(program, ended.code):
            text = f"this check ends the process {ended}."
            return Outcome(check.id, FAILED, {}, text, "", program)
        self._stop()
        try:
            self._run(check)
        except EndedError:
            return Outcome(check.id, FAILED, {}, f"this check ends the process {ended}.")
        alone = "Alone, it does not end it, so no program shows it."
        return Outcome(check.id, FAILED, {}, f"the process ended {ended}. {alone}")

    def _last_call(self, check: Check) -> tuple[str, str]:
        """Find the call that ends the process when a check runs alone, and its program."""
        calls = Path(self._folder.name) / "calls"
        calls.write_text("", encoding="utf-8")
        self._stop()
        try:
            self._ask("trace", check.id, str(calls))
        except EndedError:
            label, _, program = calls.read_text(encoding="utf-8").partition("\n")
            return label, program
        return "", ""

    def _ends(self, program: str, code: int) -> bool:
        """Run a program and return whether it ends its process with that code, and no exception."""
        survived = f"{_START}{program}\nraise SystemExit({_SURVIVED})"
        done = self._started(survived, stdin=subprocess.DEVNULL)
        done.communicate()
        raised = "Traceback" in self._complaints.read_text(encoding="utf-8", errors="replace")
        return done.returncode == code and not raised

    def _started(self, code: str, *words: str, stdin: int) -> subprocess.Popen[str]:
        with self._complaints.open("wb") as stderr:
            return subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(sys.path), *words],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for the process that asks, and it ends this one
            )

    @property
    def _complaints(self) -> Path:
        return Path(self._folder.name) / "stderr"

    def _ask(self, *request: str) -> Any:
        if self._process is None:
            self._process = self._started(_START + _SERVE, *self._words, stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            self._stop()
            raise EndedError(code, self._last())
        kind, answer = json.loads(line)
        if kind == "refused":
            raise ValueError(answer)
        return answer

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _last(self) -> str:
        """Give the last line that the process complained in."""
        lines = self._complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1][:160].rstrip('.')}" if lines else ""


def _how(code: int) -> str:
    """Write how a process ended."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name} (exit code {128 - code})"
    except ValueError:
        return f"by signal {-code} (exit code {128 - code})"


def serve(name: str, device: str | None = None) -> None:
    """Answer requests until standard input ends."""
    # What a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    session: _Session | None = None
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        try:
            session = session or _Session(name, device)
            answer = ["done", getattr(session, request)(*arguments)]
        except (ValueError, TypeError, BackendUnavailableError) as error:
            answer = ["refused", str(error)]
        except Exception as error:  # whatever a library raises as it lists its devices
            answer = ["refused", f"{name}: {said(error)}"]
        print(json.dumps(answer), file=answers, flush=True)


class _Session:
    """What the process does."""

    def __init__(self, name: str, device: str | None) -> None:
        self._here = Here(name, device)

    def library(self) -> dict[str, str]:
        return vars(self._here.library)

    def run(self, name: str) -> dict[str, Any]:
        (check,) = choose(name)
        outcome = self._here.run(check)
        return {
            "outcome": vars(outcome),
            "not_run": self._here.not_run,
            "calls": self._here.calls,
        }

    def ratio(self) -> float | None:
        return self._here.ratio()

    def program(self, name: str) -> str:
        (check,) = choose(name)
        if isinstance(check, Snippet):
            return check.program(self._here.place.xp)
        return whole_program(name, self._here.place)

    def trace(self, name: str, path: str) -> None:
        """Write each call of a check into a file before it is made."""
        (check,) = choose(name)
        assert isinstance(check, Check)
        place = self._here.place

        def begin(call: Call) -> None:
            program = write(call, Fault(RAISES, "ends the process"), place)
            Path(path).write_text(f"{call.label}\n{program}", encoding="utf-8")

        for dtype in self._here.dtypes:
            watch(check, place, dtype, {}, begin)
