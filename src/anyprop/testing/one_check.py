"""One check on one namespace, and its outcome."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anyprop._checks import said
from anyprop._typing import Array
from anyprop.backend import device_of, dtype_name, name_of, namespace
from anyprop.testing.calls import ObservedCall
from anyprop.testing.contract import Check, Results
from anyprop.testing.judging import NUMPY, Fault, Verdict
from anyprop.testing.observing import ObservedNamespace
from anyprop.testing.place import Place
from anyprop.testing.programs import run_program, shown, whole_program
from anyprop.testing.snippets import READ_BY_NUMPY, Snippet
from anyprop.testing.ulps import distances, largest

PASSED, FAILED, LACKING, NOT_RUN = "passed", "failed", "lacking", "not run"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check.

    Parameters
    ----------
    id : str
        The check's group and name.
    status : str
        PASSED, FAILED, or LACKING for what the library lacks and training does not need.
    ulps : dict of str to float
        For each dtype, the largest distance from NumPy's results, in units in the last place of the
        largest number of the array, or of 1 where that is larger.
    text : str
        What is wrong, or why it was not run, in a sentence; empty if nothing is.
    call : str
        The function or operator that is wrong; empty if no single call is.
    reproducer : str
        Lines of Python that raise for this reason, as they did when they were run; empty if nothing
        fails on its own.
    """

    id: str
    status: str
    ulps: dict[str, float] = field(default_factory=dict)
    text: str = ""
    call: str = ""
    reproducer: str = ""


Furthest = dict[str, dict[str, float]]
"""Function or operator -> dtype -> the largest distance of all its calls."""


def run_snippet(snippet: Snippet, place: Place) -> Outcome:
    """Run a check that is its own reproducer."""
    program = snippet.program(place.xp)
    error, line = run_program(program, place)
    if error is None:
        return Outcome(snippet.id, PASSED)
    text = said(error)
    if snippet.name == READ_BY_NUMPY:
        if _reads(place):
            return Outcome(snippet.id, PASSED)
        if isinstance(error, AssertionError):
            text = f"arrays cannot be read by NumPy ({error})"
        elif "np.asarray(x)" in program.splitlines()[line - 1]:
            text = f"arrays cannot be read by NumPy (np.asarray raises {text})"
    status = FAILED if snippet.needed or isinstance(error, AssertionError) else LACKING
    return Outcome(snippet.id, status, {}, f"{text}.", "", program)


def _reads(place: Place) -> bool:
    """Return whether arrays are read in another way than by `np.asarray`."""
    try:
        return bool(place.to_numpy(place.asarray([1.0, 2.0], "float32")).tolist() == [1.0, 2.0])
    except Exception:
        return False


def run_check(check: Check, place: Place, dtypes: list[str], furthest: Furthest) -> Outcome:
    """Run a check in some dtypes, watch its calls where that can be done, and note them in `furthest`.

    If a call is at fault, the outcome has that call and its reproducer.
    """
    ulps: dict[str, float] = {}
    unwatched = ""
    for dtype in dtypes:
        wrong, fault, unwatched = _run(check, place, dtype, ulps, furthest)
        if fault is not None:
            call, _ = fault
            found, program = shown(*fault, place)
            text = found.text
            if not program:
                program = _whole(check, place, dtype)
                text += (
                    f" This call alone does not fail{', but its check does' if program else ''}."
                )
            return Outcome(check.id, FAILED, ulps, text, call.label, program)
        if wrong:
            program = _whole(check, place, dtype)
            text = wrong if program else f"{wrong} When it was run again, it did not fail."
            return Outcome(check.id, FAILED, ulps, text, "", program)
    return Outcome(check.id, PASSED, ulps, unwatched)


def _run(
    check: Check, place: Place, dtype: str, ulps: dict[str, float], furthest: Furthest
) -> tuple[str, tuple[ObservedCall, Fault] | None, str]:
    """Run a check in one dtype; return what is wrong, the call at fault, and why none was judged."""
    wrong = _compared(check, place, dtype, ulps)
    if check.observable and (check.watched or wrong):
        try:
            return wrong, watch(check, place, dtype, furthest), ""
        except Exception as error:  # no call is wrong: it is not the library that fails
            return wrong, None, f"its calls could not be watched: {dtype}: {said(error)}."
    return wrong, None, ""


def _compared(check: Check, place: Place, dtype: str, ulps: dict[str, float]) -> str:
    """Run a check beside NumPy and return what is wrong with its results; empty if nothing is."""
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        try:
            results = check.run(place, dtype)
            ulps[dtype] = _compare(check, results, check.run(NUMPY, dtype), place, dtype)
        except Exception as error:
            return f"{dtype}: {said(error)}."
    return ""


def _whole(check: Check, place: Place, dtype: str) -> str:
    """Write a whole check as a program that fails; empty if it does not fail again."""
    wrong, fault, _ = _run(check, place, dtype, {}, {})
    return whole_program(check.id, place) if wrong or fault is not None else ""


def watch(
    check: Check,
    place: Place,
    dtype: str,
    furthest: Furthest,
    begin: Callable[[ObservedCall], None] = lambda call: None,
) -> tuple[ObservedCall, Fault] | None:
    """Run a check while each call is judged and noted in `furthest`; return the first that is wrong.

    `begin` is called with each call before it is made.
    """
    wrong: list[tuple[ObservedCall, Fault]] = []

    def tell(call: ObservedCall, verdict: Verdict) -> None:
        of_call = furthest.setdefault(call.label, {})
        if verdict.dtype and np.isfinite(verdict.ulps):
            of_call[verdict.dtype] = max(of_call.get(verdict.dtype, 0.0), verdict.ulps)
        if verdict.fault is not None:
            wrong.append((call, verdict.fault))

    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        try:
            check.run(Place(ObservedNamespace(place, tell, begin), place.device), dtype)
        except Exception:
            if not wrong:
                raise
    return wrong[0] if wrong else None


class WrongResultError(Exception):
    """A check returned a wrong result; the message says which."""


def _compare(check: Check, results: Results, expected: Results, place: Place, dtype: str) -> float:
    """Return the largest distance of a check's results; raise where one is wrong."""
    furthest = 0.0
    for name, right in expected.items():
        result = results[name]
        _check_place(name, result, place)
        wanted = dtype if right.dtype.kind == "f" else right.dtype.name
        if dtype_name(result) != wanted:
            raise WrongResultError(f"{name} is {dtype_name(result)}, expected {wanted}.")
        if tuple(result.shape) != right.shape:
            raise WrongResultError(
                f"{name} has shape {tuple(result.shape)}, expected {right.shape}."
            )
        size = np.max(np.abs(right.astype(np.float64)), initial=1.0)
        found = largest(distances(place.to_numpy(result), right, np.full(right.shape, size)))
        if found > check.limit:
            raise WrongResultError(
                f"{name} is {found:.3g} units in the last place of its largest number away "
                f"from NumPy's, where {check.limit:g} are allowed."
            )
        furthest = max(furthest, found)
    return furthest


def _check_place(name: str, result: Array, place: Place) -> None:
    found: Any = namespace(result)
    if found is not place.xp:
        raise WrongResultError(f"{name} belongs to {name_of(found)}, expected {place.name}.")
    if place.device is not None and device_of(result) != place.device:
        raise WrongResultError(f"{name} is on {device_of(result)}, expected {place.device}.")
