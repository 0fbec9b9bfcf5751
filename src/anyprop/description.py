"""Networks and settings in words: nested dicts of plain values, and a network from them.

    {"layer": "Affine", "d": 784, "m": 10, "bias": True}
    {"layer": "Sequential", "layers": [...]}

Only the library's own layers are made from a description, by their names in its table: the contents
of a file never decide what is imported or run.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from anyprop._checks import few, is_scalar_array, unknown
from anyprop.backend import to_host
from anyprop.layers.base import Layer
from anyprop.layers.registry import LAYERS
from anyprop.layers.sequential import Sequential
from anyprop.schedules.base import Schedule

_DEEPEST = 64  # nested levels of Sequential and Residual, so that no file costs much time


def describe(net: Layer, *, deepest: int = _DEEPEST) -> dict[str, Any]:
    """Describe a network by strings, numbers, lists and dicts, as JSON holds them.

    Raises
    ------
    TypeError
        A layer is not one of the library's.
    ValueError
        Layers contain each other more than 64 levels deep.

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
    _check_depth(deepest)
    fields = dataclasses.fields(net)  # type: ignore[arg-type]
    return {"layer": name} | {f.name: _plain_field(getattr(net, f.name), deepest) for f in fields}


def _plain_field(value: Any, deepest: int) -> Any:
    if isinstance(value, tuple):
        return [_plain_field(entry, deepest) for entry in value]
    return describe(value, deepest=deepest - 1) if isinstance(value, Layer) else value


def _check_depth(deepest: int) -> None:
    if deepest < 0:
        raise ValueError(f"layers contain each other more than {_DEEPEST} levels deep.")


def rebuild(description: Any, *, deepest: int = _DEEPEST) -> Layer:
    """Build the network that `describe` described, perhaps by way of a file.

    Raises
    ------
    ValueError
        The description is not one, or it names an unknown layer or impossible values.

    Examples
    --------
    >>> rebuild({"layer": "Dropout", "rate": 0.25})
    Dropout(rate=0.25)
    """
    _check_depth(deepest)
    if not isinstance(description, Mapping) or not isinstance(description.get("layer"), str):
        raise ValueError(f"{few([description])} does not describe a layer.")
    values = dict(description)
    name = values.pop("layer")
    if name not in LAYERS:
        raise unknown("layer", name[:60], LAYERS)
    try:
        if LAYERS[name] is Sequential:
            layers = values.pop("layers")
            return Sequential(*(rebuild(layer, deepest=deepest - 1) for layer in layers), **values)
        made = {
            key: rebuild(value, deepest=deepest - 1) if isinstance(value, Mapping) else value
            for key, value in values.items()
        }
        return LAYERS[name](**made)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{few([description])} does not describe a layer: {error}.") from None


def settings_of(thing: Any) -> dict[str, Any]:
    """Describe an optimizer, a loss, a schedule or a callback, so that two runs can be compared.

    The description, of values that JSON knows, has the class's name under ``"kind"``, and the fields of
    a dataclass. A function as learning rate, and a schedule of your own, are described by their values
    at some steps.

    Examples
    --------
    >>> import anyprop as ap
    >>> settings_of(ap.Huber(delta=0.5))
    {'kind': 'Huber', 'delta': 0.5}
    """
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    values = {
        field.name: _plain(getattr(thing, field.name))
        for field in fields
        if not field.metadata.get("younger") or getattr(thing, field.name) != field.default
    }
    lr = getattr(thing, "lr", None)
    if "lr" in values and callable(lr) and not dataclasses.is_dataclass(lr):
        values["lr"] = _sampled(lr, values["lr"])
    if isinstance(thing, Schedule) and not _is_ours(thing):
        # The fields of a user's own schedule need not determine what it computes.
        values["values"] = _sampled(thing, "")
    return {"kind": type(thing).__name__, **values}


def _is_ours(schedule: Schedule) -> bool:
    package = Schedule.__module__.rpartition(".")[0]
    return type(schedule).__module__.startswith(f"{package}.")


_SAMPLED = (0, 1, 2, 5, 10, 100, 1000, 10_000, 100_000)


def _sampled(function: Any, name: str) -> Any:
    """Describe a function of the step by its name and by some of its values."""
    try:
        function = copy.deepcopy(function)  # an object that counts its calls is not disturbed
        values = [float(function(step)) for step in _SAMPLED]
        if not all(map(math.isfinite, values)):
            return name
    except Exception:  # a user's function can raise anything; training will raise it too
        return name
    return {"kind": name} | {f"step {s}": v for s, v in zip(_SAMPLED, values, strict=True)}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if is_scalar_array(value):
        return float(to_host(value))
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) or isinstance(value, Schedule):
        return settings_of(value)
    return f"<{getattr(value, '__qualname__', type(value).__qualname__)}>"
