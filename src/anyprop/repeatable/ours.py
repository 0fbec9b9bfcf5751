"""What of a step is anyprop's own: it keeps nothing of its own from one call to the next."""

from __future__ import annotations

from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from anyprop.repeatable.same import parts_of

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
