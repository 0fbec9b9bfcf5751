"""Namespaces by name, also of libraries that anyprop has never heard of."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util

from anyprop._checks import unknown
from anyprop._typing import Namespace
from anyprop.backend import BACKENDS, get_namespace, name_of


def namespace_named(name: str) -> Namespace:
    """Get a namespace by the name of a backend or of a module.

    Parameters
    ----------
    name : str
        A name that `get_namespace` takes, or that of any module, such as ``"dask.array"``.

    Returns
    -------
    namespace
        The namespace that arrays of that library belong to.

    Raises
    ------
    ValueError
        There is no such backend and no such module, or importing it failed.
    TypeError
        The module is no Array API namespace.
    BackendUnavailableError
        The backend is known but cannot be used on this machine.
    """
    if name in BACKENDS:
        return get_namespace(name)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise unknown("array library", name, [*BACKENDS, "dask.array", "ndonnx"]) from None
        raise ValueError(f"importing {name} failed: {error}.") from error
    except Exception as error:  # a broken installation can raise anything
        raise ValueError(f"importing {name} failed: {type(error).__name__}: {error}.") from error
    return get_namespace(module)


def version_of(xp: Namespace) -> str:
    """Give the version of a namespace's library; empty where it has none."""
    package = name_of(xp).removeprefix("array_api_compat.").partition(".")[0]
    try:
        return importlib.metadata.version(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return str(getattr(xp, "__version__", ""))


def short_name(xp: Namespace) -> str:
    """Give the name under which `namespace_named` finds a namespace."""
    return name_of(xp).removeprefix("array_api_compat.")
