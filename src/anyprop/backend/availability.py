"""Which backends can be used here, on which devices, and why not otherwise."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from anyprop._checks import choice, unknown
from anyprop._typing import Device, Namespace
from anyprop.backend.namespaces import KNOWN, name_of

BACKENDS = tuple(KNOWN)
"""The names that `get_namespace` takes."""


class BackendUnavailableError(RuntimeError):
    """A backend was asked for by name and cannot be used here; the message says why."""


class Backend(NamedTuple):
    """What `available_backends` reports about one backend.

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
        The namespace that `namespace` finds for arrays of that library.

    Raises
    ------
    ValueError
        The name is unknown.
    TypeError
        The object is not an Array API namespace.
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
    if name not in KNOWN:
        raise unknown("backend", name, KNOWN)
    if reason := _why_not(name):
        raise BackendUnavailableError(f"backend {name!r} cannot be used here: {reason}")
    return importlib.import_module(KNOWN[name][0])


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


def _why_not(name: str) -> str:
    """Return why a backend cannot be used here; empty when it can."""
    if reason := _missing(name):
        return reason
    if name == "cupy":
        return _why_no_cupy(importlib.import_module("cupy"))
    if name == "dpnp" and not devices(importlib.import_module("dpnp")):
        return (
            "there is no SYCL device; install the driver of one, such as Intel's OpenCL for CPUs."
        )
    return ""


def _missing(name: str) -> str:
    """Return why the backend's package cannot be imported; empty when it can."""
    _, package, install = KNOWN[name]
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
    """Return why an importable CuPy cannot compute here; empty when it can."""
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
        # As an attribute: only then does CuPy look where pip puts the library.
        _ = cupy.cuda.cublas
        importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion()
    except (ImportError, RuntimeError) as error:
        return (
            f"a library of the CUDA toolkit is missing ({str(error).partition(chr(10))[0]}); "
            "install the extra anyprop[cuda13] or anyprop[cuda12], which brings them."
        )
    return ""


def available_backends(only: Sequence[str] | None = None) -> list[Backend]:
    """Return which backends can be used here, on which devices, and why the others cannot.

    Parameters
    ----------
    only : sequence of str, optional
        Names to check; all backends with a name by default. Checking imports the library.

    Returns
    -------
    list of Backend
        One entry for each backend.

    Raises
    ------
    ValueError
        A name is unknown; the message shows the nearest one.
    TypeError
        `only` is not a sequence of names.

    Examples
    --------
    >>> available_backends(only=["numpy"])[0].devices
    ('cpu',)
    """
    names = KNOWN if only is None else only
    if isinstance(names, (str, bytes)) or not hasattr(names, "__iter__"):
        raise TypeError(f"only must be a sequence of names such as ['numpy'], not {names!r}.")
    for name in names:
        choice("backend", name, KNOWN)
    return [_probe(name) for name in names]


def _probe(name: str) -> Backend:
    reason, missing = _why_not(name), _missing(name)
    version = "" if missing else importlib.import_module(KNOWN[name][1]).__version__
    found = () if reason else tuple(devices(get_namespace(name)))
    return Backend(name, not reason, version, found, reason)


def devices(xp: Namespace) -> dict[str, Device]:
    """Find the devices that a namespace can place arrays on, by the names that `device=` takes.

    The default device is the first.

    Examples
    --------
    >>> devices(get_namespace("numpy"))
    {'cpu': 'cpu'}
    """
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
        # Its other devices lack float64 and are meant for other tests than ours.
        return {name: xp.Device(name) for name in ("CPU_DEVICE", "device1", "device2")}
    if hasattr(xp, "__array_namespace_info__"):
        listed = xp.__array_namespace_info__().devices()
        return {str(device): device for device in listed}
    return {}


def get_device(xp: Namespace, device: str | Device | None) -> Device | None:
    """Turn a device's name, perhaps without its ``:0``, into the device object of a namespace.

    None and device objects pass through. If there is no such device, the ValueError lists the devices.
    """
    if device is None:
        return None
    named = isinstance(device, str)
    # An array's device is not a plain value, except in NumPy, which has only one.
    if (
        not named
        and type(device).__module__ not in ("builtins", "numpy")
        and name_of(xp) != "numpy"
    ):
        return device
    known = devices(xp)
    if named and not known:  # a library that lists no devices may still have names for them
        return device
    for name in (device, f"{device}:0") if named else ():
        if name in known:
            return known[name]
    raise ValueError(
        f"{name_of(xp)} has no device {device!r} here; choose one of: {', '.join(known)}."
    )
