"""Optimizers by name, as a user writes them."""

from __future__ import annotations

from anyprop._checks import choice
from anyprop._names import members
from anyprop.optimizers.base import Optimizer

OPTIMIZERS: dict[str, type[Optimizer]] = members("optimizers")
"""Name -> class of every optimizer."""


def get_optimizer(name: str) -> type[Optimizer]:
    """Get the class of an optimizer by its name.

    Parameters
    ----------
    name : str
        A key of `OPTIMIZERS`.

    Returns
    -------
    type
        A subclass of `Optimizer`; every parameter of it has a default.

    Raises
    ------
    ValueError
        The name is unknown; the message shows the nearest one.
    TypeError
        It is not a name.

    Examples
    --------
    >>> get_optimizer("adam")(lr=0.01).lr
    0.01
    """
    choice("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
