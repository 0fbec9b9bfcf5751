"""An array library made for a test: NumPy's functions over arrays of its own, some of them broken."""

from __future__ import annotations

import operator
import sys
import types
from typing import Any

import array_api_compat.numpy as reference
import numpy as np

BINARY = ("add", "sub", "mul", "truediv", "pow", "matmul", "and_", "or_")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class Late(np.ndarray):
    """What cannot be read once it is needed, as in a lazy library."""


def make_library(name: str, **changed: Any) -> types.ModuleType:
    """Create a library that can be imported by its name.

    `changed` replaces functions (None removes one) and special methods such as `__add__`; they
    take and return NumPy's arrays.

    `reads` lists for each array that NumPy read how many calls a lazy library would have made for it.
    """
    module = types.ModuleType(name)
    module.reads = []

    class Array:
        __hash__ = None

        def __init__(self, data: Any, *sources: Any) -> None:
            self.data = data if isinstance(data, np.ndarray) else np.asarray(data)
            graphs = (source.graph for source in sources if isinstance(source, Array))
            self.graph = frozenset([object()]).union(*graphs)

        def __array_namespace__(self, *, api_version: Any = None) -> Any:
            return module

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            if isinstance(self.data, Late):
                raise ValueError("it could not be computed after all")
            module.reads.append(len(self.graph))
            return np.array(self.data, dtype=dtype)

        def __setitem__(self, key: Any, value: Any) -> None:
            self.data[key] = bare(value)

        def __getattr__(self, attribute: str) -> Any:
            if attribute.startswith("_"):
                raise AttributeError(attribute)
            return wrapped(getattr(self.data, attribute))

    def bare(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(bare, value))
        return value.data if isinstance(value, Array) else value

    def wrapped(value: Any, *sources: Any) -> Any:
        return Array(value, *sources) if isinstance(value, (np.ndarray, np.generic)) else value

    def method(function: Any, *, swapped: bool = False) -> Any:
        def call(*given: Any) -> Any:
            args = given[::-1] if swapped else given
            result = function(*map(bare, args))
            return result if type(result) in (float, int, bool) else wrapped(result, *given)

        return call

    for symbol in (*BINARY, *COMPARISONS, "neg", "abs", "invert", "getitem"):
        special = symbol.rstrip("_")
        function = changed.get(f"__{special}__", getattr(operator, symbol))
        setattr(Array, f"__{special}__", method(function))
        if symbol in BINARY:
            setattr(Array, f"__r{special}__", method(function, swapped=True))
    for kind in (float, int, bool):
        special = f"__{kind.__name__}__"
        setattr(Array, special, method(changed.get(special, kind)))

    def attribute(key: str) -> Any:
        found = changed[key] if key in changed else getattr(reference, key, None)
        if found is None or key.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {key!r}")
        if isinstance(found, type) or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if key == "all" and isinstance(args[0].data, Late):  # nothing is left to put off
                raise ValueError("it could not be computed after all")
            result = found(*map(bare, args), **kwargs)
            return result if getattr(result, "strange", False) else wrapped(result, *args)

        return found if key in ("isdtype", "finfo") else call

    module.__getattr__ = attribute
    sys.modules[name] = module
    return module
