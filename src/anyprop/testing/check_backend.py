"""`check_backend`: all checks on one namespace."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from anyprop._checks import said
from anyprop._typing import Namespace
from anyprop._usage import usage
from anyprop.testing.contract import CHECKS, Check
from anyprop.testing.namespaces import namespace_named, short_name, version_of
from anyprop.testing.one_check import FAILED, NOT_RUN, Furthest, Outcome, run_check, run_snippet
from anyprop.testing.place import Place
from anyprop.testing.report import INTERRUPTED, BackendReport
from anyprop.testing.snippets import SNIPPETS, Snippet
from anyprop.testing.speed import step_seconds

Tell = Callable[[str], None]


@usage("check_backend(xp)")
def check_backend(
    xp: Namespace | str,
    *,
    device: Any = None,
    only: str = "*",
    speed: bool = True,
    tell: Tell | None = None,
) -> BackendReport:
    """Run the library's contract on an Array API namespace, and compare it with NumPy.

    Every layer, loss and optimizer is run with its options, networks are trained, and each call that
    they make on the way is judged on its own: it must return what NumPy returns for the same
    numbers, in the same dtype and shape, as an array of the namespace, on the same device. Where
    arrays cannot do what everything needs, such as being read, only this is reported and the rest
    is not run.

    A library that ends the process ends this one; `anyprop check` has a process of its own for it.

    Parameters
    ----------
    xp : namespace or str
        What to check: any Array API module, or its name; also of libraries unknown to anyprop.
    device : str or device, optional
        Device to compute on; the namespace's default by default.
    only : str
        Which checks to run, such as ``"layers/*"``: a pattern as for file names, in upper or lower
        case.
    speed : bool
        Whether a training step is timed, too; it takes some seconds.
    tell : callable, optional
        Called with the name of each check before it starts.

    Returns
    -------
    BackendReport
        What passed, what failed with a reproducer in plain Array API calls, and how far the numbers
        are from NumPy's; `print` shows it as a table. Each reproducer was run, and failed.

    Raises
    ------
    ValueError
        There is no such namespace or device, or no check of such a name.
    TypeError
        `xp` is not an Array API namespace.
    BackendUnavailableError
        The backend is known but cannot be used on this machine.

    Examples
    --------
    >>> import numpy, anyprop as ap
    >>> report = ap.check_backend(numpy, only="losses/huber", speed=False)
    >>> report.passed, report.outcomes[0].ulps
    (True, {'float32': 0.0, 'float64': 0.0})
    """
    return report_on(Here(xp, device), only=only, speed=speed, tell=tell)


class Runner(Protocol):
    """Runs checks on a library; the attributes are those of `BackendReport`."""

    library: dict[str, Any]
    """Its name, version and device."""
    not_run: dict[str, str]
    calls: Furthest

    def run(self, check: Check | Snippet) -> Outcome:
        """Run a check."""

    def ratio(self) -> float | None:
        """Time a training step, relative to NumPy's; None if it fails."""


class Here:
    """Runs checks in this process."""

    def __init__(self, xp: Namespace | str, device: Any = None) -> None:
        self.place = Place(namespace_named(xp) if isinstance(xp, str) else xp, device)
        self.library: dict[str, Any] = {
            "name": short_name(self.place.xp),
            "version": version_of(self.place.xp),
            "device": "" if device is None else str(device),
        }
        self.not_run: dict[str, str] = {}
        self.calls: Furthest = {}

    @cached_property
    def dtypes(self) -> list[str]:
        """The dtypes that can be checked."""
        self.not_run |= missing_dtypes(self.place)
        return [dtype for dtype in ("float32", "float64") if dtype not in self.not_run]

    def run(self, check: Check | Snippet) -> Outcome:
        """Run a check."""
        try:
            if isinstance(check, Snippet):
                return run_snippet(check, self.place)
            return run_check(check, self.place, self.dtypes, self.calls)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, and panics of extensions in Rust
            return Outcome(
                check.id, FAILED, text=f"it raises {said(error)}, which is not an Exception."
            )

    def ratio(self) -> float | None:
        """Time a training step, relative to NumPy's; None if it fails."""
        with contextlib.suppress(Exception):  # then the checks have failed, and said why
            return step_seconds(self.place) / step_seconds(Place("numpy"))
        return None


def report_on(runner: Runner, *, only: str, speed: bool, tell: Tell | None = None) -> BackendReport:
    """Run checks and report their outcomes, also if Ctrl-C ends them."""
    chosen = choose(only)
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(outcomes_of(chosen, runner, tell or (lambda name: None)))
        timed = runner.ratio() if speed and not any(o.status == NOT_RUN for o in outcomes) else None
    except KeyboardInterrupt:
        done, timed = {outcome.id for outcome in outcomes}, None
        left = [check.id for check in chosen if check.id not in done]
        outcomes += [Outcome(name, NOT_RUN, text=INTERRUPTED) for name in left]
    return BackendReport(
        **runner.library,
        reference=np.__version__,
        not_run=runner.not_run,
        outcomes=outcomes,
        calls=runner.calls,
        speed=timed,
    )


def outcomes_of(chosen: Sequence[Check | Snippet], runner: Runner, tell: Tell) -> Iterator[Outcome]:
    """Run checks in turn, except those that cannot pass because what everything needs fails.

    The first outcome is then that of what everything needs, also where it was not chosen.
    """

    def run(check: Check | Snippet) -> Outcome:
        tell(check.id)
        return runner.run(check)

    first: dict[str, Outcome] = {}
    lacking = ""
    for snippet in SNIPPETS:
        if snippet.fundamental and not lacking:
            first[snippet.id] = run(snippet)
            if first[snippet.id].status == FAILED:
                lacking = snippet.name
                if snippet not in chosen:
                    yield first[snippet.id]
    for check in chosen:
        if check.id in first:
            yield first[check.id]
        elif lacking and isinstance(check, Check):
            yield Outcome(check.id, NOT_RUN, text=f"it needs arrays that {lacking}.")
        else:
            yield run(check)


def choose(only: str = "*") -> list[Check | Snippet]:
    """List the checks whose names match a pattern."""
    every: Sequence[Check | Snippet] = (*SNIPPETS, *CHECKS)
    pattern = only.lower()
    # An exact name goes first: those of layers have parentheses and brackets.
    chosen = [check for check in every if check.id == only]
    chosen = chosen or [check for check in every if check.id.lower() == pattern]
    chosen = chosen or [check for check in every if fnmatchcase(check.id.lower(), pattern)]
    if not chosen:
        names = [*dict.fromkeys(f"{check.group}/*" for check in every), *(c.id for c in every)]
        by_lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(pattern, by_lower, cutoff=0.5)
        hint = f"the nearest are {', '.join(by_lower[n] for n in near)}; " if near else ""
        raise ValueError(f"no check is called {only!r}; {hint}`anyprop check --list` lists all.")
    return chosen


def missing_dtypes(place: Place) -> dict[str, str]:
    """Return the dtypes that a place lacks, and why."""
    if not hasattr(place.xp, "float64"):
        return {"float64": f"{place.name} has no float64."}
    # Without float32, too, everything fails and says so.
    with contextlib.suppress(Exception):
        place.asarray([1.0], "float32")
        try:
            place.asarray([1.0], "float64")
        except Exception as error:
            return {"float64": str(error)}
    return {}
