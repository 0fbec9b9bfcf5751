"""Calls in a row as one Python function without a loop, which adds next to nothing to their cost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Local(NamedTuple):
    """What differs from run to run: an argument of the function, or the result of one of its calls."""

    number: int


class Bound(NamedTuple):
    """A call and its arguments.

    Parameters
    ----------
    function : callable
        What to call.
    arguments : tuple
        On what; a `Local` stands for what it holds in this run.
    out : array, optional
        What it is given as its `out`.
    result : Local, optional
        What takes the returned value.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    out: Any = None
    result: Local | None = None


def unrolled(calls: Sequence[Bound], count: int) -> Callable[..., None]:
    """Make the function that does all the calls.

    Parameters
    ----------
    calls : sequence of Bound
        What to call, in this order.
    count : int
        How many arguments the function takes; they are the first locals.

    Returns
    -------
    callable
        Takes `count` positional arguments and returns None.
    """
    constants: dict[int, tuple[str, Any]] = {}

    def name(x: Any) -> str:
        if isinstance(x, Local):
            return f"x{x.number}"
        return constants.setdefault(id(x), (f"c{len(constants)}", x))[0]

    lines = []
    for function, given, out, result in calls:
        stored = "" if result is None else f"{name(result)} = "
        names = [*map(name, given), *([] if out is None else [f"out={name(out)}"])]
        lines.append(f"{stored}{name(function)}({', '.join(names)})")
    arguments = ", ".join(f"x{i}" for i in range(count))
    body = "\n  ".join([f" def run({arguments}):", *lines, "return None"])
    closed_over = ", ".join(name for name, _ in constants.values())
    make = _maker(f"def make({closed_over}):\n{body}\n return run\n")
    return make(*(constant for _, constant in constants.values()))


@functools.lru_cache(maxsize=64)
def _maker(source: str) -> Callable[..., Callable[..., None]]:
    """Compile the source, which is the same for calls of the same structure."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    make: Callable[..., Callable[..., None]] = scope["make"]
    return make
