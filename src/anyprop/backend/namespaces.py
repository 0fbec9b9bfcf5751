"""Namespaces: what an array belongs to, and where it is.

The arrays choose the backend. `namespace` finds the Array API namespace of the arrays it is given
and refuses mixtures; everything else in the library computes with what it returns.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy as np

from anyprop._checks import has, kind
from anyprop._typing import Array, Device, Namespace, Shape

# name -> (module that holds the namespace, package to look for, what to install)
KNOWN = {
    "numpy": ("array_api_compat.numpy", "numpy", "numpy"),
    "cupy": ("array_api_compat.cupy", "cupy", "anyprop[cuda13] (or anyprop[cuda12])"),
    "torch": ("array_api_compat.torch", "torch", "anyprop[torch]"),
    "jax": ("jax.numpy", "jax", "anyprop[jax]"),
    "array_api_strict": ("array_api_strict", "array_api_strict", "anyprop[strict]"),
    "dpnp": ("dpnp", "dpnp", "dpnp"),
}


_NAME_OF_MODULE = {module: name for name, (module, _, _) in KNOWN.items()}


# Every layer asks, and what `array_namespace` answers for a type never changes.
_NAMESPACE_OF_TYPE: dict[type, Namespace] = {}


def namespace(*arrays: Array) -> Namespace:
    """Find the namespace that all the given arrays belong to.

    Parameters
    ----------
    *arrays : array
        At least one array, of any shape and dtype.

    Returns
    -------
    namespace
        The module whose functions compute with these arrays.

    Raises
    ------
    TypeError
        One of them is not an array, or they belong to different namespaces; nothing is transferred
        silently.

    Examples
    --------
    >>> import numpy as np
    >>> namespace(np.zeros(3)).__name__
    'array_api_compat.numpy'
    """
    first = type(arrays[0])
    xp = _NAMESPACE_OF_TYPE.get(first) or _find(arrays[0])
    for array in arrays:
        if type(array) is first:  # as nearly always
            continue
        other = _NAMESPACE_OF_TYPE.get(type(array)) or _find(array)
        if other is not xp:
            raise TypeError(
                f"cannot compute with arrays of {name_of(xp)} and {name_of(other)} together; "
                "move one of them with anyprop.to_namespace(array, xp)."
            )
    return xp


def _find(array: Array) -> Namespace:
    check_plain(array)
    try:
        xp = array_api_compat.array_namespace(array)
    except TypeError:
        library = "an array of NumPy, CuPy, PyTorch, JAX or another Array API library"
        has_numbers = not isinstance(array, type) and hasattr(array, "to_numpy")
        advice = "take its to_numpy()" if has_numbers else f"pass {library}"
        raise TypeError(f"{kind(array)} is not an Array API array; {advice}.") from None
    _NAMESPACE_OF_TYPE[type(array)] = xp
    return xp


def check_plain(array: Any) -> None:
    """Raise TypeError if an array is sparse, or a kind of `numpy.ndarray` that computes differently."""
    # An array in a mapped file is an array; a matrix or one with units has operators of its own.
    if type(array) in (np.ndarray, np.memmap):
        return
    if not isinstance(array, np.ndarray):
        if not hasattr(array, "__array_namespace__"):
            for dense in ("toarray", "todense"):  # those of SciPy and CuPy, and of JAX
                if has(array, dense, "shape"):
                    raise TypeError(f"{kind(array)} is sparse; pass what its {dense}() returns.")
        return
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{kind(array)} is a masked array; fill or drop what is masked, as by array.filled(0) "
            "or array.compressed()."
        )
    raise TypeError(
        f"{kind(array)} is a kind of numpy.ndarray with operators of its own; "
        "pass numpy.asarray(array) if its plain numbers are meant."
    )


def name_of(xp: Namespace) -> str:
    """Return the short name of a namespace: ``"numpy"``, ``"torch"``, ``"jax"``, ..."""
    module: str = getattr(xp, "__name__", None) or kind(xp)
    return _NAME_OF_MODULE.get(module, module)


def device_of(array: Array) -> Device | None:
    """Return the device of an array; None where a tracer replaces the array."""
    if type(array) is np.ndarray:  # nothing to look up, and every step asks
        return "cpu"
    if name_of(namespace(array)) in ("jax", "torch"):
        return getattr(array, "device", None)
    return array_api_compat.device(array)


def dtype_name(array: Array) -> str:
    """Name an array's dtype as NumPy would: ``"float32"``, ``"int64"``, ..."""
    dtype = array.dtype
    of_type: Any = type(dtype)
    return _name_of_dtype(of_type, dtype)


# To write a dtype out takes longer than many operations. By its type first, as dtypes of two libraries
# may refuse to be compared.
@functools.lru_cache(maxsize=64)
def _name_of_dtype(of_type: Any, dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def check_array(name: str, array: Any) -> None:
    """Raise TypeError, with the name in front, unless `array` belongs to a namespace."""
    try:
        namespace(array)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def check_same_place(named: Sequence[tuple[str, Array]]) -> Namespace:
    """Raise TypeError unless named arrays share a namespace and a device; return the namespace."""
    for _, array in named:
        if type(array) is not np.ndarray:
            break
    else:  # these have but one place
        return namespace(named[0][1])
    try:
        namespaces = [namespace(array) for _, array in named]
    except TypeError:
        for name, array in named:
            check_array(name, array)
        raise
    (first_name, first), xp = named[0], namespaces[0]
    place = device_of(first)
    for (name, array), other_xp in zip(named[1:], namespaces[1:], strict=True):
        if other_xp is not xp:
            raise TypeError(
                f"{first_name} belongs to {name_of(xp)}, but {name} to "
                f"{name_of(other_xp)}; move one of them with anyprop.to_namespace."
            )
        other = device_of(array)
        if place is not None and other is not None and other != place:
            raise TypeError(
                f"{first_name} is on device {place}, but {name} on {other}; "
                "move one of them with anyprop.to_namespace(array, xp, device=...)."
            )
    return xp


def on_device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which all is computed on the device of an array.

    CuPy computes on the current device, whatever the device of its arrays; so what takes arrays from a
    caller enters this first. Other libraries compute where their arrays are: anything but an array of
    CuPy changes nothing.
    """
    if "cupy" not in sys.modules:  # so it cannot be an array of CuPy
        return _ANYWHERE
    xp = _NAMESPACE_OF_TYPE.get(type(array))
    if xp is None:
        try:
            xp = _find(array)
        except TypeError:
            return _ANYWHERE
    context: contextlib.AbstractContextManager[Any]
    context = array.device if name_of(xp) == "cupy" else _ANYWHERE
    return context


_ANYWHERE = contextlib.nullcontext()


def on_device(xp: Namespace, device: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which a namespace makes arrays on a device."""
    # array-api-compat obeys device= on CuPy in `asarray` alone; CuPy's own way is a context.
    if name_of(xp) == "cupy" and device is not None:
        context: contextlib.AbstractContextManager[Any] = device
        return context
    return _ANYWHERE


def create(function: Callable[..., Array], *args: Any, like: Array, **kwargs: Any) -> Array:
    """Call a creation function such as `xp.zeros` so that its result is on the device of `like`."""
    if type(like) is np.ndarray:
        return function(*args, **kwargs)
    device = device_of(like)
    with on_device(namespace(like), device):
        return function(*args, device=device, **kwargs)


def reshaped(array: Array, shape: Shape) -> Array:
    """Return the same numbers in another shape; -1 stands for the length that is left."""
    if len(shape) == len(array.shape) == 1:
        return array
    if type(array) is np.ndarray:  # the method, without NumPy's function around it
        return array.reshape(shape)
    return namespace(array).reshape(array, shape)


def concatenated(vectors: Sequence[Array]) -> Array:
    """Join vectors of one namespace, at least one, into one; a single one is returned as it is."""
    xp = namespace(*vectors)
    if len(vectors) == 1:
        return vectors[0]
    if name_of(xp) != "jax" or not isinstance(vectors[0], sys.modules["jax"].core.Tracer):
        return xp.concat(list(vectors))
    # Compiled with other operations, XLA splits a concatenation among threads by having each of them run
    # through all pieces with masked loads. Where the masked loads point outside of mapped memory, a CPU
    # needs ten times as long.
    joined, start = xp.zeros(sum(v.shape[0] for v in vectors), dtype=vectors[0].dtype), 0
    for vector in vectors:
        joined = joined.at[start : start + vector.shape[0]].set(vector)
        start += vector.shape[0]
    return joined


def memory_range(array: Array) -> tuple[int, int] | None:
    """Return the addresses in bytes between which an array is stored, to see whether two share memory.

    The second is exclusive. None where the library does not say, or if there are no numbers.
    """
    backend = name_of(namespace(array))
    if backend == "array_api_strict":
        array = np.from_dlpack(array)
    if backend in ("numpy", "array_api_strict"):
        start, strides = array.ctypes.data, array.strides
    elif backend == "cupy":
        start, strides = array.data.ptr, array.strides
    elif backend == "torch":
        start, strides = array.data_ptr(), [n * array.element_size() for n in array.stride()]
    else:
        return None
    if 0 in array.shape or start == 0:
        return None
    steps = [(n - 1) * stride for n, stride in zip(array.shape, strides, strict=True)]
    return (
        start + sum(step for step in steps if step < 0),
        start + sum(step for step in steps if step > 0) + array.itemsize,
    )
