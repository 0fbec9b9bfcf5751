"""`check_backend`: all checks on one namespace."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from anyprop._typing import Namespace
from anyprop.testing.checks import CHECKS, Check
from anyprop.testing.namespaces import namespace_named, short_name, version_of
from anyprop.testing.place import Place
from anyprop.testing.report import BackendReport
from anyprop.testing.running import Furthest, Outcome, run_check, run_snippet
from anyprop.testing.snippets import SNIPPETS, Snippet
from anyprop.testing.speed import step_seconds


def check_backend(
    xp: Namespace | str,
    *,
    device: Any = None,
    only: str = "*",
    speed: bool = True,
    tell: Callable[[str], None] | None = None,
) -> BackendReport:
    """Run the library's contract on an Array API namespace, and compare it with NumPy.

    Every layer, loss and optimizer is run with its options, networks are trained, and each call that
    they make on the way is judged on its own: it must give what NumPy gives for the same numbers, in
    the same dtype and shape, as an array of the namespace, on the same device.

    Parameters
    ----------
    xp : namespace or str
        What to check: any Array API module, or its name; also of libraries unknown to anyprop.
    device : str or device, optional
        Where to compute; the namespace's default by default.
    only : str
        Which checks to run, such as ``"layers/*"``: a pattern as file names have it.
    speed : bool
        Whether a training step is timed, too; it takes some seconds.
    tell : callable, optional
        Is given the name of each check before it starts.

    Returns
    -------
    BackendReport
        What passed, what failed with a reproducer in plain Array API calls, and how far the numbers
        are from NumPy's; `print` shows it as a table.

    Raises
    ------
    ValueError
        There is no such namespace or device, or no check of such a name.
    TypeError
        `xp` is no Array API namespace.
    BackendUnavailableError
        The backend is known but cannot be used on this machine.

    Examples
    --------
    >>> import numpy, anyprop as ap
    >>> report = ap.check_backend(numpy, only="losses/huber", speed=False)
    >>> report.passed, report.outcomes[0].ulps
    (True, {'float32': 0.0, 'float64': 0.0})
    """
    place = Place(namespace_named(xp) if isinstance(xp, str) else xp, device)
    chosen = choose(only)
    not_run = missing_dtypes(place)
    dtypes = [dtype for dtype in ("float32", "float64") if dtype not in not_run]
    furthest: Furthest = {}
    outcomes = []
    for check in chosen:
        if tell is not None:
            tell(check.id)
        outcomes.append(run(check, place, dtypes, furthest))
    return BackendReport(
        name=short_name(place.xp),
        version=version_of(place.xp),
        device="" if device is None else str(device),
        reference=np.__version__,
        not_run=not_run,
        outcomes=outcomes,
        calls=furthest,
        speed=_ratio(place) if speed else None,
    )


def choose(only: str = "*") -> list[Check | Snippet]:
    """List the checks whose names match a pattern."""
    every: Sequence[Check | Snippet] = (*SNIPPETS, *CHECKS)
    # An exact name goes first: those of layers have parentheses and brackets.
    chosen = [check for check in every if check.id == only]
    chosen = chosen or [check for check in every if fnmatchcase(check.id, only)]
    if not chosen:
        groups = dict.fromkeys(f"{check.group}/*" for check in every)
        near = difflib.get_close_matches(
            only, [*groups, *(check.id for check in every)], cutoff=0.5
        )
        hint = f"the nearest are {', '.join(near)}; " if near else ""
        raise ValueError(f"no check is called {only!r}; {hint}`anyprop check --list` lists all.")
    return chosen


def missing_dtypes(place: Place) -> dict[str, str]:
    """Give the dtypes that a place has not, and why."""
    # Without float32, too, everything fails and says so.
    try:
        place.asarray([1.0], "float32")
        place.asarray([1.0], "float64")
    except Exception as error:
        return {"float64": str(error)}
    return {}


def run(check: Check | Snippet, place: Place, dtypes: list[str], furthest: Furthest) -> Outcome:
    """Run one check, of either kind."""
    if isinstance(check, Snippet):
        return run_snippet(check, place)
    return run_check(check, place, dtypes, furthest)


def _ratio(place: Place) -> float | None:
    with contextlib.suppress(Exception):  # then the checks have failed, and said why
        return step_seconds(place) / step_seconds(Place("numpy"))
    return None
