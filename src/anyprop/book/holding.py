"""Where a layer's arrays are kept, and how every layer learns that one array replaces another.

A layer keeps its arrays in a dict: one of its own, or the `params` of the network that it belongs to.
An update writes into them where arrays can be written to, and whoever holds one sees it. Elsewhere, as
on JAX, it makes new arrays, and these are put wherever a living layer held the old ones. So a network
that is written by hand, of layers and a dict that share their arrays, trains on every backend.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Self

from anyprop._typing import Array
from anyprop._usage import Advising


class Held:
    """Attribute of a layer that is looked up in the dict that holds the layer's arrays."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        return self if layer is None else layer.arrays[self._name + layer.suffix]

    def __set__(self, layer: Any, array: Array) -> None:
        layer.arrays[self._name + layer.suffix] = array


class HoldsArrays(Advising):
    """Base of the layers with parameters, each of which is known as long as it lives."""

    arrays: dict[str, Array]
    suffix: str = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # Not in __init__, which copies and unpickled layers do not run.
        layer = super().__new__(cls, *args, **kwargs)
        layer.arrays = {}  # a user's class may set W without calling Affine's __init__
        with _lock:
            _living.add(layer)
        return layer

    def look_up_in(self, arrays: dict[str, Array], suffix: str) -> None:
        """Look up the arrays in a network's dict from now on, under names with a suffix."""
        self.arrays, self.suffix = arrays, suffix

    def held_names(self) -> list[str]:
        """List the names of the attributes that are arrays with a gradient, in their order."""
        classes = reversed(type(self).__mro__)
        return [k for cls in classes for k, value in vars(cls).items() if isinstance(value, Held)]


_living: weakref.WeakSet[HoldsArrays] = weakref.WeakSet()
_lock = threading.Lock()  # another thread may make a layer during the iteration


def replace(new: dict[int, Array], *others: dict[str, Array]) -> None:
    """Replace arrays by others in the dicts of the living layers, and in those given.

    `new` has the new array for each old one's `id`; the caller keeps the old ones alive.
    """
    if not new:
        return
    with _lock:
        dicts = {id(layer.arrays): layer.arrays for layer in _living}
    for arrays in (*others, *dicts.values()):
        for name, array in list(arrays.items()):
            if id(array) in new:
                arrays[name] = new[id(array)]
