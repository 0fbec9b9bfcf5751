"""What to write instead, where a function was called with arguments that do not fit it."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def usage(call: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator: arguments that are missing, too many or misspelt raise an error with advice.

    Parameters
    ----------
    call : str
        A call as it should be written.

    Returns
    -------
    callable
        The decorator; the function it returns has the signature of the original.

    Examples
    --------
    >>> @usage("area(width, height=1.0)")
    ... def area(width, *, height=1.0):
    ...     return width * height
    >>> area(2.0, hight=3.0)
    Traceback (most recent call last):
        ...
    TypeError: area got an unexpected keyword argument 'hight'; did you mean 'height'?
    >>> area(2.0, 3.0)
    Traceback (most recent call last):
        ...
    TypeError: area: too many positional arguments; write area(width, height=1.0).
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(*args, **kwargs)
            except TypeError:
                # Only now: to compare them takes a sixth of the time of a small network's step.
                wrong = _what_is_wrong(call, signature, args, kwargs)
                if wrong is None:
                    raise
            raise TypeError(wrong)

        return checked

    return decorate


def _what_is_wrong(
    call: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """Describe why arguments do not fit a signature; None if they do."""
    name = call.partition("(")[0]
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        strange = [key for key in kwargs if key not in signature.parameters]
        near = difflib.get_close_matches("".join(strange[:1]), signature.parameters, 1, 0.5)
        if near:
            return (
                f"{name} got an unexpected keyword argument {strange[0]!r}; did you mean "
                f"{near[0]!r}?"
            )
        return f"{name}: {error}; write {call}."
    return None
