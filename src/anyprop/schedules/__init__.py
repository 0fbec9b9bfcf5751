"""Learning rates that depend on the step, one to a file."""

from __future__ import annotations

from anyprop._names import importing, names_of

__all__ = sorted(names_of(__name__))

__getattr__ = importing(__name__)


def __dir__() -> list[str]:
    return __all__
