"""What an estimator is given, brought to where X lies: everything follows X.

Without scikit-learn's array API dispatch every input becomes a NumPy array. With it X stays where it is,
and targets and weights move to it. Labels are looked at on the host, in NumPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat
import numpy as np
import scipy.sparse
from sklearn import get_config

from anyprop._typing import Array, Namespace
from anyprop.backend import (
    device_of,
    dtype_name,
    from_host,
    get_namespace,
    name_of,
    namespace,
    to_host,
)


class Place(NamedTuple):
    """Where arrays lie, and the floating dtype that an estimator computes in there."""

    xp: Namespace
    device: Any
    dtype: str

    @classmethod
    def of(cls, array: Array) -> Place:
        """Give the place of an array of floating dtype; sparse matrices lie in NumPy."""
        if scipy.sparse.issparse(array):
            return cls(get_namespace("numpy"), None, array.dtype.name)
        return cls(namespace(array), device_of(array), dtype_name(array))

    def put(self, array: Any, *, dtype: str | None = None) -> Array:
        """Bring an array here, and to the floating dtype unless another is given."""
        dtype = self.dtype if dtype is None else dtype
        if namespace(array) is self.xp and device_of(array) == self.device:
            return self.xp.astype(array, getattr(self.xp, dtype), copy=False)
        return from_host(to_host(array), self.xp, dtype=dtype, device=self.device)


def dispatches() -> bool:
    """Tell whether scikit-learn's array API dispatch is on."""
    return bool(get_config()["array_api_dispatch"])


def is_foreign(X: Any) -> bool:
    """Tell whether X is an array that stays where it is because dispatch is on."""
    return dispatches() and array_api_compat.is_array_api_obj(X) and not scipy.sparse.issparse(X)


def float_dtypes(X: Any, dtype: str | None) -> list[Any]:
    """List the dtypes that X may keep, the one it gets otherwise first."""
    names = ("float64", "float32") if dtype is None else (dtype,)
    if not is_foreign(X):
        return [np.dtype(name) for name in names]
    xp, device = namespace(X), device_of(X)
    known = xp.__array_namespace_info__().dtypes(kind="real floating", device=device)
    return [known[name] for name in names if name in known] or [known["float32"]]


def readable(array: Any) -> Any:
    """Give what can become an array as a NumPy array, where dispatch would not look at it."""
    strange = hasattr(array, "__array__") and not hasattr(array, "columns")
    if not dispatches() or not strange or array_api_compat.is_array_api_obj(array):
        return array
    return np.asarray(array)


def host(y: Any) -> Any:
    """Give targets as what scikit-learn's functions of labels take: in NumPy, or sparse."""
    return to_host(y) if is_foreign(y) else y


def check_same_place(X: Any, params: Array, owner: str, method: str) -> None:
    """Raise ValueError if dispatch is on and X does not lie where the fitted parameters do."""
    if not dispatches():
        return
    xp, device = namespace(params), device_of(params)
    foreign = is_foreign(X)
    theirs = namespace(X) if foreign else get_namespace("numpy")
    if theirs is xp and (name_of(xp) == "numpy" or device_of(X) == device):
        return
    where = f"{name_of(theirs)} on {device_of(X)}" if foreign else "NumPy"
    raise ValueError(
        f"Inputs passed to {owner}.{method}() must use the same namespace and the same device as those "
        f"passed to fit(). It was fitted with {name_of(xp)} on {device}, but X belongs to {where}; "
        "move X with anyprop.to_namespace(X, xp, device=...)."
    )
