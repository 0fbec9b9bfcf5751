"""Layers by name: activations as a user writes them, and every class as a file records it."""

from __future__ import annotations

from anyprop._checks import shown, unknown
from anyprop._names import members
from anyprop.layers.base import Layer

ACTIVATIONS: dict[str, type[Layer]] = members("activations")
"""Name -> class of the activations that `MLP` takes by name."""

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer for layer in (*members("layers").values(), *ACTIVATIONS.values())
}
"""Class name -> class of every layer."""


def get_activation(name: str) -> type[Layer]:
    """Get the class of an activation by its name.

    Parameters
    ----------
    name : str
        A key of `ACTIVATIONS`.

    Returns
    -------
    type
        A subclass of `Layer` that can be made without arguments.

    Raises
    ------
    ValueError
        The name is unknown; the message shows the nearest one.
    TypeError
        It is not a name.

    Examples
    --------
    >>> get_activation("relu")()
    ReLU()
    """
    if not isinstance(name, str):
        raise TypeError(
            f"activation must be a name such as 'relu', not {shown(name)}; or pass a layer, such as "
            "LeakyReLU(0.3)."
        )
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
