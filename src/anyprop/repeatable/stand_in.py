"""What takes the place of an array or a number while a step is recorded."""

from __future__ import annotations


class TraceError(TypeError):
    """A step does what cannot be repeated from a recording; it has to run eagerly."""


class StandIn:
    """Base of what takes the place of an array or a number, in the recording that it was made for."""

    __slots__ = ()
