"""Which parts of a step are anyprop's own, which keep nothing from one call to the next."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from anyprop.layers.base import Layer
from anyprop.layout import Layout
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.repeatable.same import parts_of
from anyprop.step import Step

ATOMS: tuple[type, ...] = (
    type(None),
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    np.dtype,
    CodeType,
    Layout,  # which a layer keeps, once it has been asked for it
)
"""Of these nothing can change."""
_HOLDERS = (partial, MethodType, CellType, tuple, list, dict)


def is_ours(step: object) -> bool:
    """Return whether a step consists of anyprop's own objects alone, which have no hidden state."""
    waiting, seen = [step], set()
    while waiting:
        found: Any = waiting.pop()
        if isinstance(found, ATOMS) or id(found) in seen:
            continue
        seen.add(id(found))
        named = found if isinstance(found, (type, FunctionType)) else type(found)
        if type(found) in _HOLDERS or is_of_anyprop(named):
            waiting += (parts_of(found) or {}).values()
        elif not (hasattr(found, "shape") and hasattr(found, "dtype")):
            return False
    return True


def is_of_anyprop(what: Any) -> bool:
    """Return whether a class or function is anyprop's."""
    return str(what.__module__).partition(".")[0] == "anyprop"


def is_constant(step: object) -> bool:
    """Return whether a step or a function, and what is equal to it, always computes the same.

    If so, what is compiled for it serves all that are equal to it.
    """
    computes = step.gradient if isinstance(step, Step) else step
    # Whether two functions of Python are equal cannot be known.
    return not isinstance(computes, FunctionType) and _is_constant(step)


def _is_constant(value: object) -> bool:
    """Return whether something, and what is equal to it, always computes the same."""
    if value is None or isinstance(value, (bool, int, float, str, Layout)):
        return True
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    if type(value).__hash__ in (None, object.__hash__):
        # A schedule, which is called on the host.
        return callable(value) and not isinstance(value, (Layer, Loss, Optimizer))
    # What a class of the user's computes may follow from more than its fields.
    return (
        is_of_anyprop(type(value))
        and is_dataclass(value)
        and all(_is_constant(getattr(value, f.name)) for f in fields(value) if f.compare)
    )
