"""Checks in a process of their own: a library that ends it does not lose what was found so far.

When it ends, the next check starts another one.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from anyprop._checks import said
from anyprop.backend import BackendUnavailableError
from anyprop.testing import process
from anyprop.testing.calls import ObservedCall
from anyprop.testing.check_backend import Here, choose
from anyprop.testing.contract import Check
from anyprop.testing.judging import RAISES, Fault
from anyprop.testing.one_check import FAILED, NOT_RUN, Furthest, Outcome, watch
from anyprop.testing.process import Answering, EndedError, started
from anyprop.testing.programs import whole_program
from anyprop.testing.reproducer import write
from anyprop.testing.snippets import Snippet

# Checks of a group that may end the process; each costs a start, so the rest is left out.
_MOST = 3
_SURVIVED = 88
_SERVE = "from anyprop.testing.apart import serve; serve(*sys.argv[1:])"


class Apart:
    """Runs checks in a process of its own, on a library that `namespace_named` finds.

    ValueError says that there is no such namespace or device, or that importing it ends the process.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        self._words = [name] if device is None else [name, device]
        self._folder = tempfile.TemporaryDirectory()
        self._process: Answering | None = None
        self._ended: Counter[str] = Counter()
        self.not_run: dict[str, str] = {}
        self.calls: Furthest = {}
        try:
            self.library: dict[str, Any] = self._ask("library")
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
        """Run a check; if the process ends, find out whether it also does when the check runs alone."""
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
        """Time a training step, relative to NumPy's; None if it fails."""
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
        survived = f"{program}\nraise SystemExit({_SURVIVED})"
        done = started(survived, stdin=subprocess.DEVNULL, complaints=self._complaints)
        done.communicate()
        raised = "Traceback" in self._complaints.read_text(encoding="utf-8", errors="replace")
        return done.returncode == code and not raised

    @property
    def _complaints(self) -> Path:
        return Path(self._folder.name) / "stderr"

    def _ask(self, *request: str) -> Any:
        if self._process is None:
            self._process = Answering(_SERVE, *self._words, complaints=self._complaints)
        try:
            kind, answer = self._process.ask(*request)
        except EndedError:
            self._stop()
            raise
        if kind == "refused":
            raise ValueError(answer)
        return answer

    def _stop(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def serve(name: str, device: str | None = None) -> None:
    """Answer requests about a library until standard input ends."""
    session: _Session | None = None

    def answer(request: str, *arguments: str) -> tuple[str, Any]:
        nonlocal session
        try:
            session = session or _Session(name, device)
            return "done", getattr(session, request)(*arguments)
        except (ValueError, TypeError, BackendUnavailableError) as error:
            return "refused", str(error)
        except Exception as error:  # whatever a library raises while it lists its devices
            return "refused", f"{name}: {said(error)}"

    process.serve(answer)


class _Session:
    """What the process does."""

    def __init__(self, name: str, device: str | None) -> None:
        self._here = Here(name, device)

    def library(self) -> dict[str, Any]:
        return self._here.library

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

        def begin(call: ObservedCall) -> None:
            program = write(call, Fault(RAISES, "ends the process"), place)
            Path(path).write_text(f"{call.label}\n{program}", encoding="utf-8")

        for dtype in self._here.dtypes:
            watch(check, place, dtype, {}, begin)
