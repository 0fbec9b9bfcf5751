"""Namespaces, devices and transfers: the one module that knows which array libraries exist.

The arrays choose the backend. `namespace` finds the Array API namespace of the arrays it is given
and refuses mixtures; everything else in the library computes with what it returns.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from anyprop._checks import choice, kind, said, unknown
from anyprop._typing import Array, Device, Namespace

# name -> (module that holds the namespace, package to look for, what to install)
_KNOWN = {
    "numpy": ("array_api_compat.numpy", "numpy", "numpy"),
    "cupy": ("array_api_compat.cupy", "cupy", "anyprop[cuda13] (or anyprop[cuda12])"),
    "torch": ("array_api_compat.torch", "torch", "anyprop[torch]"),
    "jax": ("jax.numpy", "jax", "anyprop[jax]"),
    "array_api_strict": ("array_api_strict", "array_api_strict", "anyprop[strict]"),
    "dpnp": ("dpnp", "dpnp", "dpnp"),
}
_NAME_OF_MODULE = {module: name for name, (module, _, _) in _KNOWN.items()}
BACKENDS = tuple(_KNOWN)
"""The names that `get_namespace` takes."""

# `array_namespace` costs microseconds a call and every layer asks; a type never changes its answer.
_NAMESPACE_OF_TYPE: dict[type, Namespace] = {}


class BackendUnavailableError(RuntimeError):
    """A backend was asked for by name and cannot be used here; the message says why."""


class Backend(NamedTuple):
    """What `available_backends` tells of one backend.

    Parameters
    ----------
    name : str
        The name that `get_namespace` takes.
    available : bool
        Whether arrays can be made and computed with here.
    version : str
        Version of the installed package; empty where there is none.
    devices : tuple of str
        Names that `device=` takes; empty where the backend is not available.
    reason : str
        Why the backend cannot be used and what to do; empty where it can.
    """

    name: str
    available: bool
    version: str
    devices: tuple[str, ...]
    reason: str


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
        One of them is no array, or they belong to different namespaces; nothing is transferred
        silently.

    Examples
    --------
    >>> import numpy as np
    >>> namespace(np.zeros(3)).__name__
    'array_api_compat.numpy'
    """
    xp = _NAMESPACE_OF_TYPE.get(type(arrays[0])) or _find(arrays[0])
    for array in arrays[1:]:
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
        raise TypeError(
            f"{kind(array)} is not an Array API array; "
            "pass an array of NumPy, CuPy, PyTorch, JAX or another Array API library."
        ) from None
    _NAMESPACE_OF_TYPE[type(array)] = xp
    return xp


def check_plain(array: Any) -> None:
    """Raise TypeError if an array is of a kind of `numpy.ndarray` that computes otherwise."""
    # An array in a mapped file is an array; a matrix or one with units has operators of its own.
    if type(array) in (np.ndarray, np.memmap) or not isinstance(array, np.ndarray):
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
    """Give the short name of a namespace: ``"numpy"``, ``"torch"``, ``"jax"``, ..."""
    module: str = getattr(xp, "__name__", None) or kind(xp)
    return _NAME_OF_MODULE.get(module, module)


def get_namespace(name: str | Namespace) -> Namespace:
    """Get an Array API namespace by name.

    Parameters
    ----------
    name : str or namespace
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, ``"array_api_strict"`` or ``"dpnp"``; or
        any Array API module, such as ``cupy`` or ``ndonnx`` itself.

    Returns
    -------
    namespace
        The namespace `namespace` finds for arrays of that library.

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        The object is no Array API namespace.
    BackendUnavailableError
        The backend is known but cannot be used on this machine.

    Examples
    --------
    >>> xp = get_namespace("numpy")
    >>> float(xp.sum(xp.ones(3)))
    3.0
    """
    if not isinstance(name, str):
        return _from_module(name)
    if name not in _KNOWN:
        raise unknown("backend", name, _KNOWN)
    module, _, _ = _KNOWN[name]
    reason = _missing(name)
    if not reason and name == "cupy":
        reason = _why_no_cupy(importlib.import_module("cupy"))
    if not reason and name == "dpnp" and not devices(importlib.import_module("dpnp")):
        reason = (
            "there is no SYCL device; install the driver of one, such as Intel's OpenCL for CPUs."
        )
    if reason:
        raise BackendUnavailableError(f"backend {name!r} cannot be used here: {reason}")
    return importlib.import_module(module)


def _from_module(module: Any) -> Namespace:
    package = getattr(module, "__name__", "")
    if package in ("numpy", "cupy", "torch", "jax"):
        return get_namespace(package)
    if package == "dask.array":
        return importlib.import_module("array_api_compat.dask.array")
    if not (hasattr(module, "asarray") and hasattr(module, "matmul")):
        raise TypeError(
            f"{package or repr(module)} is not an Array API namespace; pass a module such as numpy."
        )
    return module


def _missing(name: str) -> str:
    """Say why the backend's package cannot be imported; empty when it can."""
    _, package, install = _KNOWN[name]
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed; install {install}."
    if package in sys.modules:
        return ""
    drawn = np.random.get_state()  # noqa: NPY002 (importing JAX draws from the global generator)
    try:
        importlib.import_module(package)
    except Exception as error:  # a broken installation can raise anything
        return f"importing {package} failed ({type(error).__name__}: {error})."
    finally:
        np.random.set_state(drawn)  # noqa: NPY002
    return ""


def _why_no_cupy(cupy: Any) -> str:
    """Say why an importable CuPy cannot compute here; empty when it can."""
    runtime = cupy.cuda.runtime
    try:
        driver = runtime.driverGetVersion()
    except runtime.CUDARuntimeError as error:
        return f"the CUDA driver does not answer ({error}); reinstall the NVIDIA driver."
    if driver == 0:
        return "there is no CUDA driver; install the NVIDIA driver on a machine with a GPU."
    try:
        devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "NoDevice" in str(error):
            devices = 0
        else:
            return f"the CUDA driver refuses this CuPy ({error}); update the driver."
    if devices == 0:
        return "no GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES."
    try:
        # As an attribute: only so does CuPy look where pip puts the library.
        _ = cupy.cuda.cublas
        importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion()
    except (ImportError, RuntimeError) as error:
        return (
            f"a library of the CUDA toolkit is missing ({str(error).partition(chr(10))[0]}); "
            "install the extra anyprop[cuda13] or anyprop[cuda12], which brings them."
        )
    return ""


def available_backends(only: Sequence[str] | None = None) -> list[Backend]:
    """Tell which backends can be used here, on which devices, and why not otherwise.

    Parameters
    ----------
    only : sequence of str, optional
        Names to look at; all that have a name by default. Looking imports the library.

    Returns
    -------
    list of Backend
        One entry for each backend.

    Raises
    ------
    ValueError
        A name is unknown; the message shows the nearest one.
    TypeError
        `only` is no sequence of names.

    Examples
    --------
    >>> available_backends(only=["numpy"])[0].devices
    ('cpu',)
    """
    names = _KNOWN if only is None else only
    if isinstance(names, (str, bytes)) or not hasattr(names, "__iter__"):
        raise TypeError(f"only must be a sequence of names such as ['numpy'], not {names!r}.")
    for name in names:
        choice("backend", name, _KNOWN)
    return [_probe(name) for name in names]


def _probe(name: str) -> Backend:
    version = ""
    try:
        xp = get_namespace(name)
    except BackendUnavailableError as error:
        reason = str(error).partition(": ")[2]
        if not _missing(name):
            version = importlib.import_module(_KNOWN[name][1]).__version__
        return Backend(name, False, version, (), reason)
    version = importlib.import_module(_KNOWN[name][1]).__version__
    return Backend(name, True, version, tuple(devices(xp)), "")


def devices(xp: Namespace) -> list[str]:
    """List the names of the devices that a namespace can place arrays on.

    Parameters
    ----------
    xp : namespace
        An Array API namespace.

    Returns
    -------
    list of str
        Names that `device=` takes, the default device first.

    Examples
    --------
    >>> devices(get_namespace("numpy"))
    ['cpu']
    """
    return list(_devices(xp))


def _devices(xp: Namespace) -> dict[str, Device]:
    backend = name_of(xp)
    if backend == "cupy":
        cupy = importlib.import_module("cupy")
        indices = range(cupy.cuda.runtime.getDeviceCount())
        return {f"cuda:{i}": cupy.cuda.Device(i) for i in indices}
    if backend == "jax":
        jax = importlib.import_module("jax")
        found = list(jax.devices())
        if found[0].platform != "cpu":
            found += jax.devices("cpu")
        return {f"{d.platform}:{d.id}": d for d in found}
    if backend == "torch":
        torch = importlib.import_module("torch")
        names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        names += ["mps:0"] if torch.backends.mps.is_available() else []
        return {name: torch.device(name) for name in names}
    if backend == "array_api_strict":
        # Its other devices lack float64 and serve other tests than ours.
        return {name: xp.Device(name) for name in ("CPU_DEVICE", "device1", "device2")}
    if hasattr(xp, "__array_namespace_info__"):
        listed = xp.__array_namespace_info__().devices()
        return {str(device): device for device in listed}
    return {}


def get_device(xp: Namespace, device: str | Device | None) -> Device | None:
    """Turn a device's name into the device object of a namespace.

    Parameters
    ----------
    xp : namespace
        An Array API namespace.
    device : str, device or None
        A name out of `devices`, without its ``:0`` if you like; None and device objects pass
        through.

    Returns
    -------
    device or None
        What the namespace's creation functions take as `device=`.

    Raises
    ------
    ValueError
        There is no such device; the message lists those there are.
    """
    if device is None:
        return None
    named = isinstance(device, str)
    # An array's device is no plain value, but in NumPy, which has but one.
    if (
        not named
        and type(device).__module__ not in ("builtins", "numpy")
        and name_of(xp) != "numpy"
    ):
        return device
    known = _devices(xp)
    if named and not known:  # a library that lists no devices may still have names for them
        return device
    for name in (device, f"{device}:0") if named else ():
        if name in known:
            return known[name]
    raise ValueError(
        f"{name_of(xp)} has no device {device!r} here; choose one of: {', '.join(known)}."
    )


def device_of(array: Array) -> Device | None:
    """Give the device of an array; None where a tracer stands for the array."""
    if name_of(namespace(array)) == "jax":
        return getattr(array, "device", None)
    return array_api_compat.device(array)


def from_host(
    array: Any, xp: Namespace | str | None = None, *, dtype: str | None = None, device: Any = None
) -> Array:
    """Move a NumPy array into a namespace.

    Parameters
    ----------
    array : numpy.ndarray
        Any shape and dtype; also a list or a number, as `numpy.asarray` takes them.
    xp : namespace or str, optional
        Where to; NumPy by default.
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
        The namespace cannot hold the dtype: JAX without its 64-bit mode has no float64. `dtype` names
        none, or `array` is masked or of another kind of `numpy.ndarray` with its own operators. A
        library without a name of its own here refuses ``asarray(array, device=device)``.
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
    except ValueError as error:
        raise ValueError(f"array cannot be read by NumPy: {said(error)}.") from None
    target: Namespace = get_namespace("numpy" if xp is None else xp)
    device = get_device(target, device)
    backend = name_of(target)
    if isinstance(dtype, str) and dtype == "bfloat16":
        if backend not in ("torch", "jax"):
            raise TypeError(f"{backend} has no bfloat16 here; ask for float32.")
        wide = from_host(host, target, dtype="float32", device=device)
        return target.astype(wide, target.bfloat16)
    host = _cast(host, host.dtype if dtype is None else as_dtype(dtype))
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
            host = _cast(host, narrow, " or set JAX_ENABLE_X64=1 before the program starts")
    if host.dtype.kind not in "biufcV" or (host.dtype.char in "gG" and backend in ("torch", "jax")):
        raise TypeError(f"{backend} has no arrays of {host.dtype}; cast the array to float64.")
    if backend == "torch" and (not host.flags.writeable or min(host.strides, default=0) < 0):
        host = host.copy()  # PyTorch warns of read-only memory, and knows no negative strides
    try:
        with _on(target, device):
            return target.asarray(host, device=device)
    except (TypeError, ValueError) as error:
        if backend in _KNOWN:
            raise
        raise TypeError(
            f"{backend} makes no array of a NumPy array of {host.dtype}: asarray(array, "
            f"device={device!r}) raises {said(error)}."
        ) from error


def as_dtype(name: Any) -> np.dtype[Any]:
    """Return NumPy's dtype of a name; raise TypeError if it is none."""
    # NumPy takes much more: float64 for None, a record for a dict, object for any class.
    classes = (np.generic, bool, int, float, complex)
    of_class = isinstance(name, type) and issubclass(name, classes)
    meant = of_class or isinstance(name, (str, np.dtype))
    try:
        dtype: np.dtype[Any] | None = np.dtype(name) if meant else None
    except (TypeError, ValueError, SyntaxError):
        dtype = None
    if dtype is None:
        raise TypeError(f"dtype must be the name of a dtype such as 'float32', not {name!r}.")
    return dtype


def check_floating(dtype: Any) -> None:
    """Raise TypeError unless parameters can be of a dtype: floating, in native byte order."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        return
    found = as_dtype(dtype)
    if found.kind != "f" or not found.isnative:
        raise TypeError(
            f"dtype must be a floating dtype in the machine's byte order such as 'float32', "
            f"not {dtype!r}."
        )


def _cast(host: Any, dtype: np.dtype[Any], otherwise: str = "") -> Any:
    """Convert to a dtype in the machine's byte order; refuse numbers that do not fit in it."""
    if host.dtype == dtype and dtype.isnative:
        return host
    if dtype.kind in "biuf" and host.dtype.kind not in "biuf":
        raise TypeError(f"an array of {host.dtype} cannot become {dtype.name}; give real numbers.")
    dtype = dtype.newbyteorder("=")
    if dtype.kind not in "fiu":
        return host.astype(dtype, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = host.astype(dtype, copy=False)
    if host.dtype.kind in "fiu" and not np.can_cast(host.dtype, dtype):
        if dtype.kind == "f":
            bad = np.isinf(cast) & np.isfinite(host)
        else:
            limits = np.iinfo(dtype)
            if host.dtype.kind == "f":
                whole = np.trunc(host.astype("float64"))
                # One more than the largest is a power of two and so exact as a float.
                bad = ~((whole >= float(limits.min)) & (whole < float(int(limits.max) + 1)))
            else:
                bad = (host < limits.min) | (host > limits.max)
        if bad.any():
            raise OverflowError(
                f"{host[bad].flat[0]} does not fit in {dtype.name}; ask for a wider dtype{otherwise}."
            )
    return cast


def _jax_has_64_bits() -> bool:
    return bool(importlib.import_module("jax").config.jax_enable_x64)


def _on(xp: Namespace, device: Any) -> contextlib.AbstractContextManager[Any]:
    # array-api-compat obeys device= on CuPy in `asarray` alone; CuPy's own way is a context.
    if name_of(xp) == "cupy" and device is not None:
        context: contextlib.AbstractContextManager[Any] = device
        return context
    return contextlib.nullcontext()


def on_device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which all is computed where an array lies.

    CuPy computes on the current device, whatever its arrays lie on; so what takes arrays from a caller
    enters this first. Other libraries compute where their arrays lie.

    Parameters
    ----------
    array : array or any object
        What is none of CuPy's arrays changes nothing.

    Returns
    -------
    context manager
    """
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
    if backend == "numpy":
        return np.asarray(array)
    if backend == "cupy":
        return array.get()
    if dtype_name(array) == "bfloat16":
        array = xp.astype(array, xp.float32)
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
    """Hand an array of any other library to NumPy, which may be lazy or lie on a device."""
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
    if host.dtype == object:  # what NumPy makes of something that it does not know
        raise TypeError(
            f"{name_of(namespace(array))} cannot hand an array to NumPy: neither by DLPack nor by "
            "__array__."
        )
    return host


def to_namespace(
    array: Array, xp: Namespace | str, *, dtype: str | None = None, device: Any = None
) -> Array:
    """Move an array to another namespace or device, through the host.

    Parameters
    ----------
    array : array
        Any shape and dtype.
    xp : namespace or str
        Where to.
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


def memory_range(array: Array) -> tuple[int, int] | None:
    """Find between which addresses an array's numbers lie, to tell whether two may share memory.

    Parameters
    ----------
    array : array
        Any array.

    Returns
    -------
    (start, stop) or None
        Addresses in bytes, stop exclusive; None where the library does not tell, or for no numbers.
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


def check_same_place(named: Sequence[tuple[str, Array]]) -> Namespace:
    """Raise TypeError unless all arrays share a namespace and a device; return the namespace.

    Parameters
    ----------
    named : sequence of (str, array)
        Each array under the name that the message shall use.

    Returns
    -------
    namespace
        Where all of them belong.
    """
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


def check_array(name: str, array: Any) -> None:
    """Raise TypeError, with the name in front, unless `array` belongs to a namespace."""
    try:
        namespace(array)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def dtype_name(array: Array) -> str:
    """Name an array's dtype as NumPy would: ``"float32"``, ``"int64"``, ..."""
    return str(array.dtype).rpartition(".")[2]


def create(function: Callable[..., Array], *args: Any, like: Array, **kwargs: Any) -> Array:
    """Call a creation function such as `xp.zeros` so that its result lies beside `like`."""
    device = device_of(like)
    with _on(namespace(like), device):
        return function(*args, device=device, **kwargs)


def concatenated(vectors: Sequence[Array]) -> Array:
    """Join vectors of one namespace into one.

    Parameters
    ----------
    vectors : sequence of arrays, shape (P_i,)
        At least one; a single one is returned as it is.

    Returns
    -------
    array, shape (P,)
        All their numbers, one behind the other.
    """
    xp = namespace(*vectors)
    if len(vectors) == 1:
        return vectors[0]
    if name_of(xp) != "jax":
        return xp.concat(list(vectors))
    # XLA splits a concatenation among threads by having each of them run through all pieces with
    # masked loads. Where these point outside of mapped memory, a CPU needs ten times as long.
    joined, start = xp.zeros(sum(v.shape[0] for v in vectors), dtype=vectors[0].dtype), 0
    for vector in vectors:
        joined = joined.at[start : start + vector.shape[0]].set(vector)
        start += vector.shape[0]
    return joined
