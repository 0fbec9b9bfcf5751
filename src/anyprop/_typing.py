"""Type aliases used throughout the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

Array: TypeAlias = Any
"""An array of any Array API namespace; the standard defines no common base class to name here."""

Namespace: TypeAlias = Any
"""A module (or object) that offers the functions of the Array API standard."""

Device: TypeAlias = Any
"""Whatever the array's own library calls a device."""

Tree: TypeAlias = Any
"""An array, a `Parameters`, or a dict, tuple or NamedTuple of trees."""

Shape: TypeAlias = tuple[int, ...]
Residuals: TypeAlias = Any
"""What a forward pass keeps for its backward pass; only the layer that made it looks inside."""

Grads: TypeAlias = Any
"""Name -> gradient of a layer's trainable arrays: a dict, or a `Parameters` for a network."""

Number: TypeAlias = Any
"""A Python float, or a 0-d array while a step is being traced."""


class Rng(Protocol):
    """The host generator: `numpy.random.Generator`, or the legacy `RandomState`."""

    def standard_normal(self, size: Any) -> Any: ...
    def uniform(self, low: float, high: float, size: Any) -> Any: ...


Initializer: TypeAlias = Callable[[Rng, Shape], Any]
"""Draws a float64 NumPy array of the given shape from the host generator."""

Rule: TypeAlias = Callable[..., tuple[Any, ...]]
"""One entry's update, `rule(p, g, *slots, **scalars) -> (p, *slots)`; see `anyprop.optimizers.base`."""
