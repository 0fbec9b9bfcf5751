"""What a step could remember from one call to the next: random states, counters, what its layers hold.

A step is a function of its arguments as long as all of that stays as it is. It is found by going
through the step: the attributes of its layers, its loss and its optimizer and of their classes, the
global variables and the closures that their methods read, and the lists, dicts, arrays and random
generators in them. Libraries, and the communicator of the ranks, are left out.
"""

from __future__ import annotations

import math
import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from operator import length_hint
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from anyprop.repeatable.ours import ATOMS, is_of_anyprop
from anyprop.repeatable.same import (
    attributes_of,
    contents_of,
    put_random_state,
    random_state,
    same,
    shown,
)
from anyprop.repeatable.stand_in import StandIn

MOST = 1_000
"""Number of objects that are checked, the nearest first: few enough not to slow down a first step."""
LARGEST = 1 << 20
"""Larger arrays are not copied; the numbers in them count as constant."""
_FOREIGN = {*sys.stdlib_module_names, "anyprop", "array_api_compat", "array_api_strict", "cupy"}
_FOREIGN |= {"cupyx", "jax", "jaxlib", "llvmlite", "mpi4py", "numba", "numpy", "scipy", "torch"}
_LEAVES = (*ATOMS, StandIn)


class HiddenState:
    """The hidden state of a step, as it is when this is made."""

    def __init__(self, step: object) -> None:
        self._objects: dict[int, tuple[str, Any, Any]] = {}  # words, the object, what it held
        waiting: deque[tuple[str, Any]] = deque(
            [("np.random", np.random), ("random", random), ("the step", step)]
        )
        while waiting and len(self._objects) < MOST:
            label, found = waiting.popleft()
            if isinstance(found, _LEAVES) or id(found) in self._objects:
                continue
            contents = _read(found)
            self._objects[id(found)] = label, found, contents
            waiting.extend(_children(label, found, contents))

    def change(self) -> str | None:
        """Describe what has changed since; None if nothing has."""
        for label, found, before in self._objects.values():
            now = _read(found)
            if same(before, now, _both_stand_in):
                continue
            if random_state(found) is not None:
                return f"it draws from {label}"
            if not isinstance(now, Mapping):
                return f"it changes {label}, {_were(before, now)}"
            name = next(k for k in [*now, *before] if not _same_item(before, now, k))
            were = _were(before.get(name), now.get(name))
            return f"it changes {_name(label, found, name)}, {were}"
        return None

    @property
    def classes(self) -> list[str]:
        """The names of the user's classes of which the step is made."""
        found = (what for _, what, _ in self._objects.values())
        return [what.__name__ for what in found if isinstance(what, type) and _is_own(what)]

    def put_back(self) -> None:
        """Restore everything to its first state."""
        for _, found, before in self._objects.values():
            if before is not None and not same(before, _read(found)):
                _write(found, before)

    def put_back_stand_ins(self) -> None:
        """Restore only what now holds the arrays of a recording."""
        for _, found, before in self._objects.values():
            now = _read(found)
            if isinstance(now, Mapping):
                held = {k for k, v in now.items() if v is not before.get(k) and _holds(v)}
                kept = {k: v for k, v in now.items() if k not in held}
                if held:
                    _write(found, kept | {k: v for k, v in before.items() if k in held})
            elif isinstance(now, (list, deque)) and _holds(now):
                _write(found, before)


def _children(label: str, found: Any, contents: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, with a description of each."""
    if isinstance(found, MethodType):
        yield from ((label, found.__self__), (label, found.__func__))
    elif isinstance(found, partial):
        yield from ((label, part) for part in (found.func, *found.args, *found.keywords.values()))
    elif isinstance(contents, Mapping):
        yield from ((_name(label, found, key), part) for key, part in contents.items())
    elif isinstance(found, (list, tuple, deque)):
        yield from ((f"{label}[{i}]", part) for i, part in enumerate(found))
    if isinstance(found, FunctionType):
        name, code = found.__qualname__, found.__code__
        cells = zip(code.co_freevars, found.__closure__ or (), strict=True)
        yield from ((f"the variable {variable} of {name}", cell) for variable, cell in cells)
        yield from ((f"a default of {name}", default) for default in found.__defaults__ or ())
        yield name, vars(found)
    elif isinstance(found, type):
        yield from ((base.__name__, base) for base in found.__bases__ if _is_own(base))
    elif _has_attributes(found) and _is_own(type(found)):
        yield type(found).__name__, type(found)
    elif type(found).__module__ in ("builtins", "functools"):  # properties and decorators
        for name in ("fget", "func", "__func__", "__wrapped__"):
            if isinstance(part := getattr(found, name, None), FunctionType):
                yield part.__qualname__, part


def _read(found: Any) -> Any:
    """Return a copy of what an object holds itself; None if that cannot change or is left out."""
    if isinstance(found, ModuleType) and found not in (random, np.random):
        return None
    state = random_state(found)
    if state is not None:
        return (state,)
    if isinstance(found, (list, deque, set)):
        return found.copy()
    if isinstance(found, dict):
        return dict(found)
    if isinstance(found, CellType):
        return contents_of(found)
    if isinstance(found, FunctionType):
        return _globals_of(found) if _is_own(found) else None
    if isinstance(found, type):
        own = _is_own(found)
        return {k: v for k, v in vars(found).items() if not k.startswith("__")} if own else None
    if _has_attributes(found):
        return attributes_of(found)
    if hasattr(type(found), "__next__"):  # the position of an iterator, as far as it is known
        return [shown(found), length_hint(found, -1)]
    return _array(found)


def _write(found: Any, contents: Any) -> None:
    """Restore what an object held."""
    if random_state(found) is not None:
        put_random_state(found, contents[0])
    elif isinstance(found, list):
        found[:] = contents
    elif isinstance(found, (dict, set, deque)):
        found.clear()
        (found.extend if isinstance(found, deque) else found.update)(contents)
    elif isinstance(found, FunctionType):
        for name in _globals_of(found).keys() - contents.keys():
            del found.__globals__[name]
        found.__globals__.update(contents)
    elif isinstance(contents, Mapping):
        _write_attributes(found, contents)
    elif _is_writable(found):
        found[...] = contents


def _write_attributes(found: Any, contents: Mapping[str, Any]) -> None:
    kind: Any = type if isinstance(found, type) else object
    now = _read(found)
    for name in now.keys() - contents.keys():
        kind.__delattr__(found, name)
    for name, value in contents.items():
        if name not in now or now[name] is not value:
            kind.__setattr__(found, name, value)


def _globals_of(function: FunctionType) -> dict[str, Any]:
    """Return the global variables whose names a function mentions, by name."""
    codes = [function.__code__]
    for code in codes:
        codes.extend(part for part in code.co_consts if isinstance(part, CodeType))
    names = {name for code in codes for name in code.co_names}
    space = function.__globals__
    return {n: space[n] for n in names if n in space and not isinstance(space[n], ModuleType)}


def _is_own(what: Any) -> bool:
    """Return whether a class or function belongs to the user."""
    return str(what.__module__).partition(".")[0] not in _FOREIGN


def _has_attributes(found: Any) -> bool:
    """Return whether the attributes of an object count."""
    kind = type(found)
    if hasattr(kind, "barrier") and hasattr(kind, "all_reduce"):  # a communicator
        return False
    return is_of_anyprop(kind) or kind is SimpleNamespace or _is_own(kind)


def _array(found: Any) -> Any:
    """Return a copy of an array whose numbers can change; None for everything else."""
    if not _is_writable(found) or math.prod(found.shape) > LARGEST:
        return None
    return found.clone() if hasattr(found, "clone") else found.copy()


def _is_writable(found: Any) -> bool:
    if isinstance(found, np.ndarray):
        return found.flags.writeable
    kind = type(found)
    return kind.__module__.partition(".")[0] in ("cupy", "torch") and hasattr(kind, "shape")


def _name(label: str, found: Any, name: Any) -> str:
    if isinstance(found, CellType):
        return label
    if isinstance(found, FunctionType):
        return f"the global {name}"
    if isinstance(found, dict):
        return f"{label}[{name!r}]"
    kind = found if isinstance(found, type) else type(found)
    return f"{kind.__name__}.{name}"


def _same_item(a: Mapping[Any, Any], b: Mapping[Any, Any], key: Any) -> bool:
    return key in a and key in b and same(a[key], b[key], _both_stand_in)


def _were(a: Any, b: Any) -> str:
    return f"which is {shown(a)} after the first and {shown(b)} after the second"


def _stands_in(a: Any) -> bool:
    """Return whether something is an array or a number of a recording, or of a trace of JAX."""
    jax = sys.modules.get("jax")
    return isinstance(a, StandIn) or (jax is not None and isinstance(a, jax.core.Tracer))


def _both_stand_in(a: Any, b: Any) -> bool | None:
    """Return whether two stand-ins are alike: those of another recording are never the same."""
    if not (_stands_in(a) and _stands_in(b)):
        return None
    return all(getattr(a, name, None) == getattr(b, name, None) for name in ("shape", "dtype"))


def _holds(a: Any, depth: int = 5) -> bool:
    """Return whether there is a stand-in inside something."""
    if _stands_in(a):
        return True
    if depth == 0 or isinstance(a, (*_LEAVES, FunctionType, type, ModuleType)):
        return False
    if isinstance(a, Mapping):
        parts: Any = a.values()
    elif isinstance(a, (list, tuple, deque)):
        parts = a
    else:
        parts = (attributes_of(a) or {}).values() if _has_attributes(a) else ()
    return any(_holds(part, depth - 1) for part in parts)
