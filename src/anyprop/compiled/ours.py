"""What of a step is anyprop's own: it keeps nothing of its own from one call to the next."""

from __future__ import annotations

from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np

from anyprop.compiled.same import attributes_of, contents_of

ATOMS: tuple[type, ...] = (type(None), int, float, complex, str, bytes, np.generic, np.dtype)
"""Of these nothing can change."""


def is_ours(step: object) -> bool:
    """Return whether a step consists of anyprop's own objects alone, which have no hidden state."""
    waiting, seen = [step], set()
    while waiting:
        found: Any = waiting.pop()
        if isinstance(found, ATOMS) or id(found) in seen:
            continue
        seen.add(id(found))
        kind = type(found)
        if kind is partial:
            waiting += [found.func, *found.args, *found.keywords.values()]
        elif kind is MethodType:
            waiting += [found.__self__, found.__func__]
        elif kind in (tuple, list):
            waiting += found
        elif kind is dict:
            waiting += found.values()
        elif kind is FunctionType and is_of_anyprop(found):
            waiting += [*(found.__closure__ or ()), *(found.__defaults__ or ())]
        elif kind is CellType:
            waiting += contents_of(found).values()
        elif isinstance(found, type) and is_of_anyprop(found):
            continue
        elif is_of_anyprop(kind):
            waiting += (attributes_of(found) or {}).values()
        elif not (hasattr(found, "shape") and hasattr(found, "dtype")):
            return False
    return True


def is_of_anyprop(what: Any) -> bool:
    """Return whether a class or function is anyprop's."""
    return str(what.__module__).partition(".")[0] == "anyprop"
