"""What a function of CuPy takes: by `inspect`, or by the first line of its documentation.

Compiled functions have no signature that Python can read, but Cython writes it, with the C types, into
their documentation: ``Stream.wait(self, intptr_t stream, int flags=0) -> None``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

_POSITIONAL, _NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


# Modules that are not attributes until they are imported.
_IMPORTED = {
    "array_api_compat.cupy",
    "cupy._core.flags",
    "cupy.cuda.nccl",
    "cupy_backends.cuda.libs.nvrtc",
}
# Attributes of an object that its class lacks, and an object that needs no driver.
_OF_OBJECTS = {"cupy.cuda.Stream.ptr": "cupy.cuda.Stream.null.ptr"}


def find(path: str) -> Any:
    """Find the object of a full name; raise ImportError or AttributeError if there is none."""
    parts = _OF_OBJECTS.get(path, path).split(".")
    found, known = importlib.import_module(parts[0]), 1
    for k in range(2, len(parts) + 1):
        if (name := ".".join(parts[:k])) in _IMPORTED:
            found, known = importlib.import_module(name), k
    for name in parts[known:]:
        found = getattr(found, name)
    return found


def signature_of(found: Any) -> inspect.Signature | None:
    """Return what something takes, without `self`; None if that is unknown."""
    if inspect.isroutine(found) or inspect.isclass(found):
        try:
            signature = inspect.signature(found)
        except ValueError:
            signature = None
        if signature is not None:
            return _without_self(signature)
    lines = (found.__doc__ or "").strip().splitlines()
    match = re.match(r"[\w.]+\((.*)\)(?: -> .*)?$", lines[0].replace("\\*", "*")) if lines else None
    return None if match is None else _without_self(_parsed(match[1]))


def _without_self(signature: inspect.Signature) -> inspect.Signature:
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    return signature.replace(parameters=parameters)


def _parsed(text: str) -> inspect.Signature:
    """Read parameters with C types: ``a, int n, intptr_t p=0, *, dtype=None``."""
    kind, parameters = _POSITIONAL, []
    for part in filter(None, (p.strip() for p in re.split(r",(?![^(]*\))", text))):
        if part == "/":
            parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
        elif part == "*":
            kind = _NAMED
        elif part.startswith("**"):
            parameters.append(inspect.Parameter(part[2:], inspect.Parameter.VAR_KEYWORD))
        elif part.startswith("*"):
            parameters.append(inspect.Parameter(part[1:], inspect.Parameter.VAR_POSITIONAL))
            kind = _NAMED
        else:
            declared, has_default, _ = part.partition("=")
            default = None if has_default else inspect.Parameter.empty
            name = declared.split(":")[0].split()[-1].lstrip("*")
            parameters.append(inspect.Parameter(name, kind, default=default))
    return inspect.Signature(parameters)
