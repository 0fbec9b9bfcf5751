"""Networks in words: a layer as nested dicts of plain values, and back.

    {"layer": "Affine", "d": 784, "m": 10, "bias": True}
    {"layer": "Sequential", "layers": [...]}

Only the library's own layers are made from a description, by their names in its table: what stands in a
file never decides what is imported or run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from anyprop._checks import unknown
from anyprop.layers.base import Layer
from anyprop.layers.registry import LAYERS
from anyprop.layers.sequential import Sequential


def describe(net: Layer) -> dict[str, Any]:
    """Describe a network by strings, numbers, lists and dicts, as JSON holds them.

    Parameters
    ----------
    net : Layer
        One of the library's layers, made of such layers all the way down.

    Returns
    -------
    dict
        The class's name under ``"layer"``, and its parameters under theirs.

    Raises
    ------
    TypeError
        A layer is not one of the library's.

    Examples
    --------
    >>> import anyprop as ap
    >>> describe(ap.Dropout(0.25))
    {'layer': 'Dropout', 'rate': 0.25}
    """
    name = type(net).__name__
    if LAYERS.get(name) is not type(net):
        raise TypeError(
            f"{net!r} is not one of anyprop's layers and has no description in plain values."
        )
    if isinstance(net, Sequential):
        return {"layer": name, "layers": [describe(layer) for layer in net.layers]}
    values = {f.name: getattr(net, f.name) for f in dataclasses.fields(net)}  # type: ignore[arg-type]
    return {"layer": name} | {
        key: describe(value) if isinstance(value, Layer) else value for key, value in values.items()
    }


def rebuild(description: Any) -> Layer:
    """Make the network that `describe` described.

    Parameters
    ----------
    description : dict
        What `describe` returned, perhaps by way of a file.

    Returns
    -------
    Layer
        A network equal to the one described.

    Raises
    ------
    ValueError
        The description is not one, or it names an unknown layer or impossible values.

    Examples
    --------
    >>> rebuild({"layer": "Dropout", "rate": 0.25})
    Dropout(rate=0.25)
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("layer"), str):
        raise ValueError(f"{description!r} does not describe a layer.")
    values = dict(description)
    name = values.pop("layer")
    if name not in LAYERS:
        raise unknown("layer", name, LAYERS)
    try:
        if LAYERS[name] is Sequential:
            layers = values.pop("layers")
            return Sequential(*map(rebuild, layers), **values)
        made = {k: rebuild(v) if isinstance(v, Mapping) else v for k, v in values.items()}
        return LAYERS[name](**made)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{description!r} does not describe a layer: {error}.") from None
