"""Namespaces by name, also of libraries that anyprop has never heard of."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Any

from anyprop._checks import kind, unknown
from anyprop._typing import Namespace
from anyprop.backend import BACKENDS, get_namespace, name_of


def namespace_named(name: str) -> Namespace:
    """Get a namespace by the name of a backend, of a module, or of what a module makes.

    Modules are such as ``"dask.array"``; ``"marray.numpy"`` is made by one. ValueError says that there
    is neither, or that importing it failed; TypeError that it is not an Array API namespace.
    """
    if name in BACKENDS:
        return get_namespace(name)
    try:
        module = _imported(name)
    except ModuleNotFoundError as error:
        if _part_of(error, name):
            raise unknown("array library", name, [*BACKENDS, "dask.array", "ndonnx"]) from None
        raise ValueError(f"importing {name} failed: {error}.") from error
    except Exception as error:  # a broken installation can raise anything
        raise ValueError(f"importing {name} failed: {type(error).__name__}: {error}.") from error
    return get_namespace(module)


def _imported(name: str) -> Any:
    """Import a module, or an attribute of a module that has the name of one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        parent, _, attribute = name.rpartition(".")
        if not parent or not _part_of(error, name):
            raise
        try:
            return getattr(_imported(parent), attribute)
        except AttributeError:
            raise error from None


def _part_of(error: ModuleNotFoundError, name: str) -> bool:
    """Return whether the module itself was not found, rather than something that it imports."""
    return error.name is not None and f"{name}.".startswith(f"{error.name}.")


def version_of(xp: Namespace) -> str:
    """Return the version of a namespace's library; empty where it has none."""
    try:
        return importlib.metadata.version(short_name(xp).partition(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return str(getattr(xp, "__version__", ""))


def short_name(xp: Namespace) -> str:
    """Return the name under which `namespace_named` finds a namespace."""
    return name_of(xp).removeprefix("array_api_compat.")


def header(xp: Namespace) -> list[str]:
    """Write the import of a namespace, if it is one that can be imported."""
    name = getattr(xp, "__name__", "")
    parent, _, attribute = name.rpartition(".")
    # Without a file: its parent makes it, maybe each time.
    if parent and getattr(xp, "__spec__", None) is None:
        made = getattr(sys.modules.get(parent), attribute, None)
        if getattr(made, "__name__", None) == name:
            return [f"from {parent} import {attribute} as xp"]
    if sys.modules.get(name) is xp:
        return [f"import {name} as xp"]
    return [f"# xp is {name or kind(xp)}"]
