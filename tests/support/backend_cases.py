"""The backends that a test with the fixture `backend` runs on, and how each makes its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anyprop.backend import from_host, get_device, get_namespace, to_host


@dataclass(frozen=True)
class BackendCase:
    """One way to run a test: a namespace, a device, and how its arrays are made."""

    id: str
    name: str
    device_name: str | None = None
    readonly: bool = False

    @property
    def xp(self) -> Any:
        return get_namespace(self.name)

    @property
    def device(self) -> Any:
        return get_device(self.xp, self.device_name)

    @property
    def mutable(self) -> bool:
        """Whether arrays made here can be written to in place."""
        return self.name != "jax" and not self.readonly

    def asarray(self, values: Any, dtype: str | None = None) -> Any:
        """Return an array of this backend from numbers, lists or a NumPy array."""
        host = np.array(values, dtype=dtype)
        array = from_host(host, self.xp, device=self.device)
        if self.readonly:
            array.flags.writeable = False
        return array

    def to_numpy(self, array: Any) -> np.ndarray:
        return to_host(array)

    def __str__(self) -> str:
        return self.id


CASES = {
    "numpy": (BackendCase("numpy", "numpy"), BackendCase("numpy-readonly", "numpy", readonly=True)),
    "array_api_strict": (
        BackendCase("strict", "array_api_strict"),
        BackendCase("strict-device1", "array_api_strict", "device1"),
    ),
    "torch": (BackendCase("torch", "torch"),),
    "jax": (BackendCase("jax", "jax"),),
    "cupy": (BackendCase("cupy", "cupy"),),
}
