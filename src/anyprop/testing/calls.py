"""One use of the Array API, in a form that any namespace can repeat.

A call names a function of the namespace, an operator, an attribute or a conversion, and holds its
arguments independent of any library: an array as `Given` numbers, a dtype by its name.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Namespace
from anyprop.testing.place import Place

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)

FUNCTION, OPERATOR, ATTRIBUTE, CONVERSION = "function", "operator", "attribute", "conversion"

# Name in the module `operator` -> how it is written.
SYMBOLS = {
    **{"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "truediv": "{} / {}"},
    **{"pow": "{} ** {}", "matmul": "{} @ {}", "floordiv": "{} // {}", "mod": "{} % {}"},
    **{"eq": "{} == {}", "ne": "{} != {}", "lt": "{} < {}", "le": "{} <= {}"},
    **{"gt": "{} > {}", "ge": "{} >= {}", "and_": "{} & {}", "or_": "{} | {}", "xor": "{} ^ {}"},
    **{"neg": "-{}", "pos": "+{}", "invert": "~{}", "abs": "abs({})"},
    **{"getitem": "{}[{}]", "setitem": "{}[{}] = {}"},
}


@dataclass(frozen=True)
class Given:
    """The numbers of an array that a call was given."""

    host: Any


class DType(NamedTuple):
    """A dtype, by its name in the standard."""

    name: str


class Somewhere(NamedTuple):
    """The device of the place that a call is made in."""


@dataclass(frozen=True)
class ObservedCall:
    """One use of the Array API, with arguments that are independent of any library."""

    form: str  # FUNCTION, OPERATOR, ATTRIBUTE or CONVERSION
    name: (
        str  # in the namespace, in the module `operator`, of the attribute, or of the builtin type
    )
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def label(self) -> str:
        """How the call is named in a table."""
        if self.form == FUNCTION:
            return f"xp.{self.name}"
        if self.form == OPERATOR:
            return SYMBOLS[self.name].replace("{}[{}]", "x[...]").format("x", "y")
        return f"x.{self.name}" if self.form == ATTRIBUTE else f"{self.name}(x)"

    def at(self, place: Place) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments at a place."""

        def realized(value: Any) -> Any:
            if isinstance(value, Given):
                return place.asarray(value.host)
            if isinstance(value, DType):
                return getattr(place.xp, value.name)
            return place.device if isinstance(value, Somewhere) else value

        return mapped(realized, self.args), mapped(realized, self.kwargs)

    def perform(self, xp: Namespace, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call with arguments of a namespace; an assignment returns the array assigned to."""
        if self.form == FUNCTION:
            return getattr(xp, self.name)(*args, **kwargs)
        if self.form == ATTRIBUTE:
            return getattr(args[0], self.name)
        if self.form == CONVERSION:
            return getattr(builtins, self.name)(*args)
        result = getattr(operator, self.name)(*args)
        return args[0] if self.name == "setitem" else result

    def replace(self, change: Callable[[Any], Any]) -> ObservedCall:
        """Return the same call with other numbers in its arrays, NumPy's among them."""

        def changed(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return change(value)
            return Given(change(value.host)) if isinstance(value, Given) else value

        return ObservedCall(
            self.form, self.name, mapped(changed, self.args), mapped(changed, self.kwargs)
        )

    def arrays(self) -> list[Any]:
        """List the numbers of the arrays given, as NumPy arrays."""
        return [value.host for value in self.flat() if isinstance(value, Given)]

    def flat(self) -> list[Any]:
        """List all arguments, those inside lists and tuples too."""
        found: list[Any] = []
        mapped(found.append, [self.args, self.kwargs])
        return found


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to everything inside lists, tuples and dicts."""
    if isinstance(value, dict):
        return {key: mapped(function, inside) for key, inside in value.items()}
    if type(value) in (list, tuple):
        return type(value)(mapped(function, inside) for inside in value)
    return function(value)


def dtype_named(xp: Namespace, value: Any) -> DType | None:
    """Return the name of a dtype of a namespace; None for anything else."""
    if value is None or isinstance(value, (builtins.bool, int, float, str, slice, np.ndarray)):
        return None
    for name in DTYPES:
        known = getattr(xp, name, None)
        if known is value or (known is not None and type(known) is type(value) and known == value):
            return DType(name)
    if isinstance(value, np.dtype) and value.name in DTYPES:
        return DType(value.name)
    return None
