"""Assertions about arrays, and arrays of unusual kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

import anyprop as ap
from anyprop.backend import device_of, dtype_name, namespace


def assert_beside(array: Any, reference: Any, dtype: str | None = None) -> None:
    """Fail unless an array has another's namespace, device and dtype (or the dtype named)."""
    assert namespace(array) is namespace(reference)
    assert device_of(array) == device_of(reference)
    assert dtype_name(array) == (dtype or dtype_name(reference))


def assert_same_parameters(ours: Any, theirs: Any) -> None:
    """Fail unless parameters are the same numbers of the same dtype, wherever they are."""
    assert ours.layout == theirs.layout
    for name, array in ours.named().items():
        np.testing.assert_array_equal(ap.to_host(array), ap.to_host(theirs[name]), strict=True)


def with_gaps(backend: Any, host: np.ndarray) -> Any:
    """Return an array of the given numbers that is not contiguous in memory."""
    spread = np.zeros(tuple(2 * n for n in host.shape), dtype=host.dtype)
    spread[(slice(None, None, 2),) * host.ndim] = host
    return backend.asarray(spread)[(slice(None, None, 2),) * host.ndim]


def other_backends_array(backend: Any, host: np.ndarray) -> Any:
    """Return an array that does not belong to the backend under test."""
    return ap.from_host(host, "array_api_strict" if backend.name == "numpy" else "numpy")
