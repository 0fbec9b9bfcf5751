"""One check on one namespace, and what came of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import device_of, dtype_name, name_of, namespace
from anyprop.testing.calls import Call
from anyprop.testing.checks import Check, Results
from anyprop.testing.judging import NUMPY, Fault, Verdict
from anyprop.testing.observing import ObservedNamespace
from anyprop.testing.place import Place
from anyprop.testing.reproducer import header, smallest, write
from anyprop.testing.snippets import Snippet
from anyprop.testing.ulps import distances, largest

PASSED, FAILED, LACKING = "passed", "failed", "lacking"


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Parameters
    ----------
    id : str
        The check's group and name.
    status : str
        PASSED, FAILED, or LACKING for what the library has not and training does not need.
    ulps : dict of str to float
        For each dtype, the largest distance from NumPy's results, in units in the last place of the
        largest number of the array, or of 1 where that is larger.
    text : str
        What is wrong, in a sentence; empty if nothing is.
    call : str
        The function or operator that is wrong; empty if no single one is.
    reproducer : str
        Lines of Python that show it.
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
    program = "\n".join(["import numpy as np", *header(place.xp), snippet.code.strip()])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(snippet.code, {"xp": place.xp, "np": np})
    except Exception as error:
        status = FAILED if snippet.needed or isinstance(error, AssertionError) else LACKING
        return Outcome(snippet.id, status, {}, _said(error), "", program)
    return Outcome(snippet.id, PASSED)


def run_check(check: Check, place: Place, dtypes: list[str], furthest: Furthest) -> Outcome:
    """Run a check in some dtypes, and watch its calls where that can be done.

    Parameters
    ----------
    check : Check
        What to run.
    place : Place
        Where.
    dtypes : list of str
        In which dtypes.
    furthest : dict of str to dict
        Function or operator -> dtype -> largest distance; brought up to date.

    Returns
    -------
    Outcome
        If a call is at fault, that call and its reproducer.
    """
    ulps: dict[str, float] = {}
    wrong, fault = "", None
    for dtype in dtypes:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                results = check.run(place, dtype)
                ulps[dtype] = _compare(check, results, check.run(NUMPY, dtype), place, dtype)
            except Exception as error:
                wrong = f"{dtype}: {_said(error)}"
            if check.observable and (check.watched or wrong):
                try:
                    fault = _watch(check, place, dtype, furthest)
                except Exception as error:
                    wrong = (
                        wrong or f"{dtype}: it fails while its calls are watched: {_said(error)}"
                    )
        if wrong or fault is not None:
            break
    if fault is not None:
        call, least = smallest(*fault, place)
        return Outcome(check.id, FAILED, ulps, least.text, call.label, write(call, least, place))
    if wrong:
        program = "\n".join(
            [
                "import anyprop as ap",
                *header(place.xp),
                f"print(ap.check_backend(xp, only={check.id!r}))",
            ]
        )
        return Outcome(check.id, FAILED, ulps, wrong, "", program)
    return Outcome(check.id, PASSED, ulps)


def _watch(check: Check, place: Place, dtype: str, furthest: Furthest) -> tuple[Call, Fault] | None:
    """Run a check while each call is judged; give the first that is wrong."""
    wrong: list[tuple[Call, Fault]] = []

    def tell(call: Call, verdict: Verdict) -> None:
        of_call = furthest.setdefault(call.label, {})
        if verdict.dtype and np.isfinite(verdict.ulps):
            of_call[verdict.dtype] = max(of_call.get(verdict.dtype, 0.0), verdict.ulps)
        if verdict.fault is not None:
            wrong.append((call, verdict.fault))

    try:
        check.run(Place(ObservedNamespace(place, tell), place.device), dtype)
    except Exception:
        if not wrong:
            raise
    return wrong[0] if wrong else None


class WrongResultError(Exception):
    """A check gave what it should not; the message tells what."""


def _compare(check: Check, results: Results, expected: Results, place: Place, dtype: str) -> float:
    """Give the largest distance of a check's results; raise where one is wrong."""
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


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".rstrip(": ")
