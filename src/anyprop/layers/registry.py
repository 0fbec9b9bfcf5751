"""Layers by name: activations as a user writes them, and every class as a file records it."""

from __future__ import annotations

from anyprop._checks import unknown
from anyprop.layers.affine import Affine
from anyprop.layers.base import Layer
from anyprop.layers.batch_norm import BatchNorm
from anyprop.layers.dropout import Dropout
from anyprop.layers.elu import ELU
from anyprop.layers.gelu import GELU
from anyprop.layers.identity import Identity
from anyprop.layers.layer_norm import LayerNorm
from anyprop.layers.leaky_relu import LeakyReLU
from anyprop.layers.relu import ReLU
from anyprop.layers.residual import Residual
from anyprop.layers.sequential import Sequential
from anyprop.layers.sigmoid import Sigmoid
from anyprop.layers.silu import SiLU
from anyprop.layers.softmax import Softmax
from anyprop.layers.softplus import Softplus
from anyprop.layers.tanh import Tanh

ACTIVATIONS: dict[str, type[Layer]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "silu": SiLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "softplus": Softplus,
    "identity": Identity,
}
"""Name -> class of the activations that `MLP` takes by name."""

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        *(Affine, BatchNorm, Dropout, LayerNorm, Residual, Sequential, Softmax),
        *ACTIVATIONS.values(),
    )
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
        It is no name.

    Examples
    --------
    >>> get_activation("relu")()
    ReLU()
    """
    if not isinstance(name, str):
        raise TypeError(f"activation must be a name such as 'relu', not {name!r}.")
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
