"""Where a check computes: a namespace and a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyprop._typing import Array, Namespace
from anyprop.backend import from_host, get_device, get_namespace, name_of, to_host


class Place:
    """A namespace and a device, by default the namespace's, and how arrays get there and back."""

    def __init__(self, xp: Namespace | str, device: Any = None) -> None:
        self.xp = get_namespace(xp)
        self.name = name_of(self.xp)
        self.device = get_device(self.xp, device)

    def asarray(self, values: Any, dtype: str | None = None) -> Array:
        """Create an array here from numbers, lists or a NumPy array."""
        return from_host(np.array(values, dtype=dtype), self.xp, device=self.device)

    def to_numpy(self, array: Array) -> Any:
        """Copy an array into NumPy."""
        return np.array(to_host(array))
