"""Transfers: between the host and a namespace, between two namespaces, and numbers read back."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Sequence
from itertools import compress, islice
from typing import Any

import array_api_compat
import numpy as np

from anyprop._checks import said, worded
from anyprop._typing import Array, Namespace
from anyprop._usage import usage
from anyprop.backend.availability import get_device, get_namespace
from anyprop.backend.dtypes import as_dtype, cast_to
from anyprop.backend.namespaces import (
    KNOWN,
    check_plain,
    dtype_name,
    name_of,
    namespace,
    on_device,
)

_BEYOND_BFLOAT16 = 2.0**128 - 2.0**119  # rounded to eight digits, it is 2^128


@usage("from_host(array, xp)")
def from_host(
    array: Any, xp: Namespace | str | None = None, *, dtype: str | None = None, device: Any = None
) -> Array:
    """Move a NumPy array into a namespace.

    Parameters
    ----------
    array : numpy.ndarray
        Any shape and dtype; also a list or a number, as `numpy.asarray` takes them.
    xp : namespace or str, optional
        Target namespace; NumPy by default.
    dtype : str, optional
        Name of the dtype to convert to, such as ``"float32"``; the array's own by default.
    device : str or device, optional
        The namespace's default by default.

    Returns
    -------
    array
        The same numbers in the machine's byte order, an array of `xp`; shape kept. It may share memory
        with `array`. JAX without its 64-bit mode makes int32 of int64 and uint32 of uint64.

    Raises
    ------
    TypeError
        The namespace cannot hold the dtype: JAX without its 64-bit mode has no float64. `dtype` is
        not the name of a dtype, or `array` is masked or of another kind of `numpy.ndarray` with its
        own operators. A library without a name of its own here refuses ``asarray(array,
        device=device)``.
    OverflowError
        A number does not fit in the dtype.
    ValueError
        There is no such namespace or device.
    BackendUnavailableError
        The backend is known but cannot be used on this machine.
    """
    check_plain(array)
    try:
        host = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise worded(error, f"array cannot be read by NumPy: {said(error)}.") from None
    target: Namespace = get_namespace("numpy" if xp is None else xp)
    device = get_device(target, device)
    backend = name_of(target)
    if dtype_name(host) == "bfloat16":  # of the package ml_dtypes; NumPy's own functions refuse it
        dtype = "bfloat16" if dtype is None and backend in ("torch", "jax") else dtype
        host = host.astype("float32")
    if isinstance(dtype, str) and dtype == "bfloat16":
        if backend not in ("torch", "jax"):
            raise TypeError(f"{backend} has no bfloat16 here; ask for float32.")
        wide = cast_to(host, np.dtype("float32"))
        if (beyond := np.isfinite(wide) & (abs(wide) >= _BEYOND_BFLOAT16)).any():
            raise OverflowError(
                f"{wide[beyond].flat[0]} does not fit in bfloat16; ask for a wider dtype."
            )
        return target.astype(from_host(wide, target, device=device), target.bfloat16)
    host = cast_to(host, host.dtype if dtype is None else as_dtype(dtype))
    if backend == "numpy":
        return host
    if backend == "jax" and not _jax_has_64_bits():
        if host.dtype.name == "float64":
            raise TypeError(
                "JAX holds float64 arrays only in its 64-bit mode; set JAX_ENABLE_X64=1 before the "
                "program starts, or ask for float32."
            )
        if host.dtype.name in ("int64", "uint64"):
            # JAX would do the same, with a warning, and to numbers that do not fit as well.
            narrow = np.dtype(host.dtype.name.replace("64", "32"))
            host = cast_to(host, narrow, " or set JAX_ENABLE_X64=1 before the program starts")
    if host.dtype.kind not in "biufcV" or (host.dtype.char in "gG" and backend in ("torch", "jax")):
        raise TypeError(f"{backend} has no arrays of {host.dtype}; cast the array to float64.")
    if backend == "torch" and (not host.flags.writeable or min(host.strides, default=0) < 0):
        host = host.copy()  # PyTorch warns of read-only memory, and knows no negative strides
    try:
        with on_device(target, device):
            return target.asarray(host, device=device)
    except (TypeError, ValueError) as error:
        if backend in KNOWN:
            raise
        raise TypeError(
            f"{backend} cannot make an array from a NumPy array of {host.dtype}: asarray(array, "
            f"device={device!r}) raises {said(error)}."
        ) from error


def _jax_has_64_bits() -> bool:
    return bool(importlib.import_module("jax").config.jax_enable_x64)


def to_host(array: Array) -> Any:
    """Copy an array of any namespace and device into NumPy.

    Parameters
    ----------
    array : array
        Any shape and dtype; on a GPU this waits until the array is computed.

    Returns
    -------
    numpy.ndarray
        The same numbers, shape and dtype; float32 of bfloat16, which NumPy lacks.

    Raises
    ------
    TypeError
        The array's library has no way to hand its numbers to NumPy.
    """
    xp = namespace(array)
    backend = name_of(xp)
    if dtype_name(array) == "bfloat16":
        array = xp.astype(array, xp.float32)
    if backend == "numpy":
        return np.asarray(array)
    if backend == "cupy":
        return array.get()
    if backend == "torch":
        return array.detach().cpu().numpy()
    if backend == "array_api_strict":
        array = array_api_compat.to_device(array, xp.Device("CPU_DEVICE"))
    if backend in ("array_api_strict", "jax"):
        return np.asarray(array)
    if backend == "ndonnx":
        return array.unwrap_numpy()
    return _exchanged(array)


def _exchanged(array: Array) -> Any:
    """Convert an array of any other library, which may be lazy or on a device, to NumPy."""
    if hasattr(array, "__dlpack__"):
        refusals = (BufferError, RuntimeError, TypeError, ValueError)
        with contextlib.suppress(*refusals):
            return np.from_dlpack(array)
        with contextlib.suppress(*refusals):
            return np.from_dlpack(array, device="cpu")
    try:
        host = np.asarray(array)
    except MemoryError:
        raise
    except Exception as error:
        raise TypeError(
            f"{name_of(namespace(array))} cannot hand an array to NumPy: np.asarray raises "
            f"{said(error)}."
        ) from error
    if host.dtype == object:  # what NumPy makes of an object that it does not know
        raise TypeError(
            f"{name_of(namespace(array))} cannot hand an array to NumPy: neither by DLPack nor by "
            "__array__."
        )
    return host


@usage("to_namespace(array, xp)")
def to_namespace(
    array: Array, xp: Namespace | str, *, dtype: str | None = None, device: Any = None
) -> Array:
    """Move an array to another namespace or device, through the host.

    Parameters
    ----------
    array : array
        Any shape and dtype.
    xp : namespace or str
        Target namespace.
    dtype : str, optional
        Name of the dtype to convert to; the array's own by default.
    device : str or device, optional
        The namespace's default by default.

    Returns
    -------
    array
        The same numbers, an array of `xp`; shape kept.

    Raises
    ------
    TypeError, ValueError, BackendUnavailableError
        As `to_host` and `from_host`.

    Examples
    --------
    >>> import numpy as np
    >>> to_namespace(np.arange(3), "numpy", dtype="float32")
    array([0., 1., 2.], dtype=float32)
    """
    namespace(array)
    if dtype is None and dtype_name(array) == "bfloat16":
        target = get_namespace(xp)
        dtype = "bfloat16" if name_of(target) in ("torch", "jax") else None
    return from_host(to_host(array), xp, dtype=dtype, device=device)


def read(numbers: Sequence[Any]) -> list[float]:
    """Read numbers and vectors as floats, one after another; those of one dtype in a single transfer."""
    elsewhere = [*map(_is_elsewhere, numbers)]
    there: dict[Any, list[Array]] = {}
    for number in compress(numbers, elsewhere):
        vector = namespace(number).reshape(number, (-1,))
        there.setdefault(number.dtype, []).append(vector)
    here = {
        dtype: iter(to_host(namespace(*vectors).concat(vectors)))
        for dtype, vectors in there.items()
    }
    values: list[float] = []
    for number, is_there in zip(numbers, elsewhere, strict=True):
        if is_there:
            values += map(float, islice(here[number.dtype], math.prod(number.shape)))
        elif getattr(number, "shape", ()):
            values += map(float, number)
        else:
            values.append(float(number))
    return values


def _is_elsewhere(number: Any) -> bool:
    if type(number) in (float, np.ndarray) or isinstance(number, np.generic):
        return False
    return hasattr(number, "dtype")


def read_number(number: Any) -> float:
    """Return a Python number, or an array of shape (), as a float."""
    return float(to_host(number)) if hasattr(number, "dtype") else float(number)
