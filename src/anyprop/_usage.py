"""What to write instead, where a function was called with arguments that do not fit it."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
        name = function.__name__

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                strange = [key for key in kwargs if key not in signature.parameters]
                near = difflib.get_close_matches("".join(strange[:1]), signature.parameters, 1, 0.5)
                if near:
                    raise TypeError(
                        f"{name} got an unexpected keyword argument {strange[0]!r}; did you mean "
                        f"{near[0]!r}?"
                    ) from None
                raise TypeError(f"{name}: {error}; write {call}.") from None
            return function(*args, **kwargs)

        return checked

    return decorate
