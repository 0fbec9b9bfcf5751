"""Losses by name."""

from __future__ import annotations

from anyprop._checks import choice
from anyprop._names import members
from anyprop.losses.base import Loss

LOSSES: dict[str, type[Loss]] = members("losses")
"""Name -> class of every loss."""


def get_loss(name: str) -> type[Loss]:
    """Get the class of a loss by its name.

    Parameters
    ----------
    name : str
        A key of `LOSSES`.

    Returns
    -------
    type
        A subclass of `Loss` that can be made without arguments.

    Raises
    ------
    ValueError
        The name is unknown; the message shows the nearest one.
    TypeError
        It is not a name.

    Examples
    --------
    >>> get_loss("huber")()
    Huber(delta=1.0)
    """
    choice("loss", name, LOSSES)
    return LOSSES[name]
