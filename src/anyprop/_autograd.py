"""Public functions compute without PyTorch's autograd: gradients are the library's own matter.

A tensor that requires gradients may come in as parameters, data or gradients. Nothing that is done
with it is recorded, so its `grad` stays as it is, and results require no gradient. What `torch.func`
transforms is left to it, as `jax.grad` sees through these functions, too: without a record its
gradients would be 0.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def unrecorded(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function of which PyTorch records nothing; without PyTorch it is called as it is."""
    modules = sys.modules

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        if "torch" not in modules:  # every layer asks in every step
            return function(*args, **options)
        torch = modules["torch"]
        # What is called inside such a function is left alone: the outermost does it for all.
        if _thread.within or not hasattr(torch, "no_grad") or _transforming(torch):
            return function(*args, **options)
        _thread.within = True
        try:
            with torch.no_grad():
                return cast("R", _detached(function(*args, **options)))
        finally:
            _thread.within = False

    return call


def _transforming(torch: Any) -> bool:
    """Return whether this is called within `torch.func.grad`, `vmap` or another of its transforms."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return active is not None and active()


class _Thread(threading.local):
    within = False


_thread = _Thread()


def _detached(result: Any) -> Any:
    if type(result) is tuple:
        return tuple(map(_detached, result))
    if isinstance(result, dict):
        return {name: _detached(value) for name, value in result.items()}
    return detached(result)


def detached(array: Any) -> Any:
    """Return a tensor that requires gradients as one that does not, in the same memory."""
    # An identity returns what it was given, and an update in place the parameters themselves.
    kind = getattr(sys.modules.get("torch"), "Tensor", ())
    return array.detach() if isinstance(array, kind) and array.requires_grad else array


def unrecorded_methods(cls: type, names: tuple[str, ...]) -> None:
    """Make the named methods that a class itself defines unrecorded."""
    for name in names:
        if name in vars(cls):
            setattr(cls, name, unrecorded(vars(cls)[name]))
