"""Whether two recordings of a step hold the same: numbers, arrays, functions, and what holds them."""

from __future__ import annotations

import random
import reprlib
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np

from anyprop.backend import to_host

Paired = Callable[[Any, Any], "bool | None"]


def same(a: object, b: object, paired: Paired | None = None) -> bool:
    """Return whether two objects compute the same, as far as can be determined.

    Arrays and numbers are compared bit by bit, so that NaN equals itself and 0.0 is not -0.0; functions
    by their code and by what they close over; other objects by their attributes. `paired` is asked first
    about each pair, and returns True or False where it knows, and None where it does not.
    """
    return _Comparison(paired or (lambda a, b: None)).of(a, b)


def shown(a: object) -> str:
    """Return a short text of one line that shows an object."""
    return " ".join(reprlib.repr(a).split())


class _Comparison:
    """One comparison; what is already being compared is assumed to be the same."""

    def __init__(self, paired: Paired) -> None:
        self._paired = paired
        self._begun: dict[tuple[int, int], tuple[Any, Any]] = {}  # which also keeps them alive

    def of(self, a: Any, b: Any) -> bool:
        known = self._paired(a, b)
        if known is not None:
            return known
        if a is b:
            return True
        if type(a) is not type(b):
            return False
        if isinstance(a, (int, str)):
            return bool(a == b)
        if isinstance(a, (float, complex, np.generic)):
            return repr(a) == repr(b)
        if hasattr(a, "shape") and hasattr(a, "dtype"):
            return _answer(lambda: _same_bits(a, b))
        if (id(a), id(b)) in self._begun:
            return True
        self._begun[id(a), id(b)] = a, b
        parts, others = parts_of(a), parts_of(b)
        if parts is None or others is None:
            return _answer(lambda: a == b)
        return parts.keys() == others.keys() and all(self.of(parts[k], others[k]) for k in parts)


def parts_of(a: Any) -> Mapping[Any, Any] | None:
    """Return what an object consists of; None for what has no parts, such as a number."""
    if isinstance(a, (list, tuple, deque)):
        return dict(enumerate(a))
    if isinstance(a, Mapping):
        return dict(a)
    if isinstance(a, slice):
        return {"start": a.start, "stop": a.stop, "step": a.step}
    if isinstance(a, FunctionType):
        closure = {f"variable {i}": cell for i, cell in enumerate(a.__closure__ or ())}
        return {"code": a.__code__, "defaults": a.__defaults__, **closure}
    if isinstance(a, CellType):
        return contents_of(a)
    if isinstance(a, MethodType):
        return {"object": a.__self__, "function": a.__func__}
    if isinstance(a, partial):
        return {"function": a.func, "arguments": a.args, "keywords": a.keywords}
    state = random_state(a)
    if state is not None:
        return {"random state": state}
    return None if isinstance(a, type) else attributes_of(a)


def contents_of(cell: CellType) -> dict[str, Any]:
    """Return what a variable of a closure holds, under its one name; nothing if it is not set yet."""
    try:
        return {"cell_contents": cell.cell_contents}
    except ValueError:
        return {}


def random_state(a: Any) -> Any:
    """Return the state of what draws random numbers, to be compared with `same`; None for all else.

    That is a generator of NumPy, old or new, of `random` or of PyTorch, or the module `random` or
    `np.random`, for its global one.
    """
    if isinstance(a, np.random.Generator):
        return a.bit_generator.state
    if isinstance(a, np.random.BitGenerator):
        return a.state
    if a is random or (isinstance(a, random.Random) and not isinstance(a, random.SystemRandom)):
        version, words, *rest = a.getstate()
        return version, np.asarray(words), *rest
    of_torch = type(a).__module__.startswith("torch") and type(a).__name__ == "Generator"
    if a is np.random or isinstance(a, np.random.RandomState) or of_torch:
        return a.get_state()
    return None


def put_random_state(a: Any, state: Any) -> None:
    """Restore the state of what draws random numbers, as returned by `random_state`."""
    if isinstance(a, np.random.Generator):
        a = a.bit_generator
    if isinstance(a, np.random.BitGenerator):
        a.state = state
    elif hasattr(a, "setstate"):
        version, words, *rest = state
        a.setstate((version, tuple(words.tolist()), *rest))
    else:
        a.set_state(state)


def attributes_of(a: Any) -> dict[str, Any] | None:
    """Return an object's attributes by name, those in slots too; None if it can have none."""
    kind: Any = type(a)
    slots = [name for name in _slots(kind) if hasattr(a, name)]
    if not slots and not hasattr(a, "__dict__"):
        return None
    return {name: getattr(a, name) for name in slots} | dict(getattr(a, "__dict__", {}))


@lru_cache
def _slots(kind: Any) -> list[str]:
    found = []
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        found += [names] if isinstance(names, str) else list(names)
    return [name for name in found if not name.startswith("__")]


def _same_bits(a: Any, b: Any) -> bool:
    return tuple(a.shape) == tuple(b.shape) and a.dtype == b.dtype and _bits(a) == _bits(b)


def _bits(a: Any) -> bytes:
    # a layer may keep a subclass of NumPy's arrays, which `to_host` refuses
    return (np.asarray(a) if isinstance(a, np.ndarray) else to_host(a)).tobytes()


def _answer(compare: Callable[[], Any]) -> bool:
    try:
        return bool(compare())
    except Exception:  # what cannot be compared is not known to be the same
        return False
