"""Programs that show what fails: each has been run, and failed."""

from __future__ import annotations

import sys
import traceback
import warnings

import numpy as np

from anyprop.testing.calls import ObservedCall
from anyprop.testing.judging import MISSING, NAMESPACE, RAISES, UNREADABLE, Fault
from anyprop.testing.place import Place
from anyprop.testing.reproducer import opening, smallest, written

_FILE = "<reproducer>"


def shown(call: ObservedCall, fault: Fault, place: Place) -> tuple[Fault, str]:
    """Make a call that failed smaller and write it as a program that fails as the call did.

    The results are what is wrong with the smallest call, and lines that raise for this reason; those of
    the call as it was if they alone do, and no lines if none do.
    """
    for made, found in (smallest(call, fault, place), (call, fault)):
        for program in written(made, found, place):
            if _raises(program, found, place):
                return found, program
    return fault, ""


def _raises(program: str, fault: Fault, place: Place) -> bool:
    """Run a program; return whether its last line raises what the fault says."""
    error, line = run_program(program, place)
    if line != len(program.splitlines()):
        return False
    if fault.kind == RAISES:
        return type(error).__name__ == fault.error
    if fault.kind == UNREADABLE:
        return True
    expected = {MISSING: (AttributeError,), NAMESPACE: (AssertionError, TypeError)}
    return isinstance(error, expected.get(fault.kind, (AssertionError,)))


def run_program(program: str, place: Place) -> tuple[Exception | None, int]:
    """Run a program; return the exception and the line that raised it, or None and 0.

    The place provides `xp` where the program cannot import it.
    """
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            exec(compile(program, _FILE, "exec"), {"xp": place.xp})
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        return error, next(frame.lineno or 0 for frame in frames if frame.filename == _FILE)
    return None, 0


def whole_program(name: str, place: Place) -> str:
    """Write the program that runs one check at a place and fails if it does not pass."""
    x64 = place.name == "jax" and sys.modules["jax"].config.jax_enable_x64
    device = "" if place.device is None else "device=device, "
    lines = [
        "import anyprop as ap",
        *opening(place, x64=x64),
        f"report = ap.check_backend(xp, {device}only={name!r}, speed=False)",
        "assert report.passed, report",
    ]
    return "\n".join(lines)
