"""A namespace that passes everything on to another one and watches each call.

The library finds its namespace through its arrays, so arrays that say that they belong to an observed
namespace are enough: it runs as it is, and every function, operator, index and conversion that it uses
is judged on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from anyprop._typing import Array, Namespace
from anyprop.backend import device_of, to_host
from anyprop.testing.calls import (
    ATTRIBUTE,
    CONVERSION,
    DTYPES,
    FUNCTION,
    OPERATOR,
    SYMBOLS,
    Given,
    ObservedCall,
    Somewhere,
    dtype_named,
    mapped,
)
from anyprop.testing.judging import MISSING, NUMPY, Fault, Verdict, is_array, judge, judge_error
from anyprop.testing.place import Place

Tell = Callable[[ObservedCall, Verdict], None]
Begin = Callable[[ObservedCall], None]

# What is read and computes nothing.
_PLAIN = {*DTYPES, "e", "pi", "inf", "nan", "newaxis", "finfo", "iinfo", "isdtype", "Device"}

_REFLECTED = {"add", "sub", "mul", "truediv", "pow", "matmul", "floordiv", "mod"}
_REFLECTED |= {"and_", "or_", "xor"}


class ObservedArray:
    """An array of an observed namespace; each such namespace has a class of its own."""

    __slots__ = ("_array",)
    __hash__ = None  # type: ignore[assignment]
    _observer: ClassVar[ObservedNamespace]

    def __init__(self, array: Array) -> None:
        self._array = array

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self._observer

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(to_host(self._array), dtype=dtype)

    @property
    def device(self) -> Any:
        return device_of(self._array)  # not every library's arrays have the attribute

    def __getattr__(self, name: str) -> Any:
        if name == "T":
            return self._observer.call(ATTRIBUTE, name, (self,))
        return getattr(self._array, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._observer.call(OPERATOR, "setitem", (self, key, value))


def _operator(name: str, *, reflected: bool) -> Callable[..., Any]:
    def method(self: ObservedArray, *others: Any) -> Any:
        args = (*others, self) if reflected else (self, *others)
        return self._observer.call(OPERATOR, name, args)

    return method


def _conversion(name: str) -> Callable[[ObservedArray], Any]:
    return lambda self: self._observer.call(CONVERSION, name, (self,))


for _name in SYMBOLS.keys() - {"setitem"}:
    setattr(ObservedArray, f"__{_name.rstrip('_')}__", _operator(_name, reflected=False))
for _name in _REFLECTED:
    setattr(ObservedArray, f"__r{_name.rstrip('_')}__", _operator(_name, reflected=True))
for _name in ("float", "int", "bool"):
    setattr(ObservedArray, f"__{_name}__", _conversion(_name))


class ObservedNamespace:
    """The namespace of a place; it calls `begin` before each call made in it, and `tell` afterwards."""

    def __init__(self, place: Place, tell: Tell, begin: Begin = lambda call: None) -> None:
        # The library goes by names, and takes an array of NumPy to be NumPy's without asking.
        name = getattr(place.xp, "__name__", place.name)
        self.__name__ = "observed NumPy" if place.name == "numpy" else name
        self._place, self._tell, self._begin = place, tell, begin
        self._type = type("ObservedArray", (ObservedArray,), {"_observer": self, "__slots__": ()})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _PLAIN:
            return getattr(self._place.xp, name)
        try:
            found = getattr(self._place.xp, name)
        except AttributeError as error:
            if hasattr(NUMPY.xp, name):
                self._tell(
                    ObservedCall(FUNCTION, name, (), {}), Verdict(Fault(MISSING, f"{error}."))
                )
            raise
        return partial(self.call, FUNCTION, name) if callable(found) else found

    def call(self, form: str, name: str, args: Any, /, *more: Any, **kwargs: Any) -> Any:
        """Make a call and report it."""
        args = (args, *more) if form == FUNCTION else args
        call = ObservedCall(form, name, mapped(self._neutral, args), mapped(self._neutral, kwargs))
        if "device" in call.kwargs:
            call.kwargs["device"] = Somewhere()
        self._begin(call)
        inner_args, inner_kwargs = mapped(self._bare, args), mapped(self._bare, kwargs)
        try:
            result = call.perform(self._place.xp, inner_args, inner_kwargs)
        except Exception as error:
            if not (name == "setitem" and isinstance(error, (TypeError, ValueError, RuntimeError))):
                self._tell(call, judge_error(call, error))
            raise
        after: list[Any] = []
        mapped(lambda v: after.append(_numbers(v._array)) if _observed(v) else None, [args, kwargs])
        verdict = judge(call, self._place, result, after)
        self._tell(call, verdict)
        if name == "setitem":
            return None
        if not is_array(result):
            return result
        # What has no DLPack may be lazy: each read of it would compute everything before it again.
        if verdict.fault is None and not hasattr(result, "__dlpack__"):
            result = self._place.asarray(_numbers(result))
        return self._type(result)

    def _neutral(self, value: Any) -> Any:
        if _observed(value):
            return Given(_numbers(value._array))
        if isinstance(value, tuple):  # a shape of a class of its own
            return tuple(value)
        return dtype_named(self._place.xp, value) or value

    def _bare(self, value: Any) -> Any:
        return value._array if _observed(value) else value


def _observed(value: Any) -> bool:
    return isinstance(value, ObservedArray)


def _numbers(array: Array) -> Any:
    return np.array(to_host(array))
