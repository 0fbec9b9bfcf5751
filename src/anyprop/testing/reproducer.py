"""The smallest lines of plain Array API calls that show what is wrong with a call.

The call that failed is made again with fewer rows, columns and digits for as long as it fails in the
same way; what is left is written out with its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from anyprop.backend import to_host
from anyprop.testing.calls import (
    CONVERSION,
    FUNCTION,
    SYMBOLS,
    DType,
    Given,
    ObservedCall,
    Somewhere,
    mapped,
)
from anyprop.testing.judging import (
    DEVICE,
    DTYPE,
    MISSING,
    NAMESPACE,
    RAISES,
    SHAPE,
    UNREADABLE,
    WRITES,
    Fault,
    judge,
    judge_error,
)
from anyprop.testing.namespaces import header
from anyprop.testing.place import Place

_NAMES = "xyzuvw"
_READ = "np.asarray({0})"


def repeated(call: ObservedCall, place: Place) -> Fault | None:
    """Repeat a call at a place, and return what is wrong with it."""
    try:
        args, kwargs = call.at(place)
        result = call.perform(place.xp, args, kwargs)
    except Exception as error:
        return judge_error(call, error).fault
    after: list[Any] = []
    made = ObservedCall(call.form, call.name, args, kwargs)
    for value, given in zip(made.flat(), call.flat(), strict=True):
        if isinstance(given, Given):
            after.append(np.array(to_host(value)))
    return judge(call, place, result, after).fault


def smallest(call: ObservedCall, fault: Fault, place: Place) -> tuple[ObservedCall, Fault]:
    """Make a call smaller for as long as it fails in the same way, and say what is wrong with it."""
    found = call, fault
    for change in _changes(call):
        smaller = found[0].replace(change)
        try:
            again = repeated(smaller, place)
        except Exception:  # a smaller call may not be a valid call any more
            continue
        if again is not None and again.kind == fault.kind:
            found = smaller, again
    return found


def _changes(call: ObservedCall) -> list[Callable[[Any], Any]]:
    arrays = [*call.arrays(), *(value for value in call.flat() if isinstance(value, np.ndarray))]
    sizes = sorted({n for host in arrays for n in host.shape if n > 1}, reverse=True)
    changes: list[Callable[[Any], Any]] = [lambda host: host]
    for size in sizes:
        changes += [partial(_cut, size=size, start=start, n=1) for start in range(size)]
        changes.append(partial(_cut, size=size, start=0, n=2))
    return [*changes, np.ones_like, partial(_rounded, digits=1), partial(_rounded, digits=3)]


def _cut(host: Any, *, size: int, start: int, n: int) -> Any:
    """Keep n entries of each axis of one size: axes that belong together have the same."""
    return host[tuple(slice(start, start + n) if m == size else slice(None) for m in host.shape)]


def _rounded(host: Any, *, digits: int) -> Any:
    if host.dtype.kind != "f":
        return host
    return np.asarray([float(f"{v:.{digits}g}") for v in host.flat], host.dtype).reshape(host.shape)


def written(call: ObservedCall, fault: Fault, place: Place) -> list[str]:
    """Write a call as the programs that may show what is wrong, the likeliest first."""
    if fault.kind != UNREADABLE:
        return [write(call, fault, place)]
    # What a lazy library cannot compute at all, and what it cannot hand to NumPy.
    return [write(call, fault, place, read=read) for read in ("bool(xp.all({0} == {0}))", _READ)]


def write(call: ObservedCall, fault: Fault, place: Place, read: str = _READ) -> str:
    """Write a call as a program, whose last line raises if the call alone is what fails.

    `read` says how an array is read, for UNREADABLE.
    """
    if fault.kind == MISSING:
        return "\n".join([*header(place.xp), f"xp.{call.name}  # {fault.text}"])
    lines = opening(place, x64=any(a.dtype.itemsize == 8 for a in call.arrays()))
    device = "" if place.device is None else ", device=device"
    names = iter(_NAMES)
    arrays: list[str] = []

    def named(value: Any) -> Any:
        if isinstance(value, Somewhere):
            return _Source("device" if device else "None")
        if not isinstance(value, Given):
            return _Source(_literal(value))
        arrays.append(next(names))
        dtype = f"dtype=xp.{value.host.dtype.name}{device}"
        made = f"xp.asarray({_numbers(value.host)}, {dtype})"
        if value.host.size == 0:  # a list without entries does not show the shape
            made = f"xp.zeros({value.host.shape}, {dtype})"
        lines.append(f"{arrays[-1]} = {made}")
        return _Source(arrays[-1])

    args, kwargs = mapped(named, call.args), mapped(named, call.kwargs)
    expression = _expression(call, args, kwargs)
    if fault.kind == RAISES:
        lines.append(f"{expression}  # {fault.text}")
    elif call.form == CONVERSION:
        lines.append(f"assert {expression} == {_literal(fault.expected)}, {expression}")
    elif call.name == "setitem" or fault.kind == WRITES:
        written = arrays[int(fault.index[0])] if fault.kind == WRITES else arrays[0]
        lines += [expression, *_wrong(fault, written)]
    elif fault.kind == UNREADABLE:
        result = next(names)
        lines += [f"{result} = {expression}", f"{read.format(result)}  # {fault.text}"]
    else:
        result = next(names)
        lines += [f"{result} = {expression}", *_wrong(fault, result)]
    if any("np." in line.partition("#")[0] for line in lines):
        lines.insert(0, "import numpy as np")
    return "\n".join(lines)


class _Source(str):
    """A piece of a program, written into it as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def _expression(call: ObservedCall, args: Any, kwargs: Any) -> str:
    if call.form == FUNCTION:
        inside = [repr(a) for a in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
        return f"xp.{call.name}({', '.join(inside)})"
    if call.form == CONVERSION:
        return f"{call.name}({args[0]})"
    if call.name in SYMBOLS:
        index = [", ".join(a) if isinstance(a, tuple) else a for a in args[1:]]
        return SYMBOLS[call.name].format(args[0], *index)
    return f"{args[0]}.{call.name}"


def _wrong(fault: Fault, result: str) -> list[str]:
    """Write the assertion that fails."""
    if fault.kind == SHAPE:
        return [f"assert tuple({result}.shape) == {fault.expected}, {result}.shape"]
    if fault.kind == DTYPE:
        return [f"assert {result}.dtype == xp.{fault.expected}, {result}.dtype"]
    if fault.kind == NAMESPACE:
        return [
            "from array_api_compat import array_namespace",
            f"assert array_namespace({result}) is xp, type({result})",
        ]
    if fault.kind == DEVICE:
        return [f"assert {result}.device == device, {result}.device"]
    index = fault.index[1:] if fault.kind == WRITES else fault.index
    entry = f"{result}[{', '.join(map(str, index))}]" if index else result
    if isinstance(fault.expected, bool):
        return [f"assert bool({entry}) is {fault.expected}, {entry}"]
    right = _literal(fault.expected)
    if fault.tolerance and right not in ('float("nan")', 'float("inf")', '-float("inf")'):
        return [f"assert abs(float({entry}) - {right}) <= {fault.tolerance:.3g}, {entry}"]
    if right == 'float("nan")':
        return [f"assert float({entry}) != float({entry}), {entry}"]
    return [f"assert float({entry}) == {right}, {entry}"]


def _literal(value: Any) -> str:
    """Write a value of an argument."""
    if isinstance(value, DType):
        return f"xp.{value.name}"
    if isinstance(value, np.ndarray):
        return f"np.asarray({_numbers(value)}, dtype=np.{value.dtype.name})"
    if isinstance(value, slice):
        return _slice(value)
    if value is Ellipsis:
        return "..."
    if isinstance(value, float) and not np.isfinite(value):
        return 'float("nan")' if value != value else f'{"-" if value < 0 else ""}float("inf")'
    return repr(value)


def _slice(value: slice) -> str:
    parts = ["" if part is None else repr(part) for part in (value.start, value.stop)]
    return ":".join(parts + ([] if value.step is None else [repr(value.step)]))


def _numbers(host: Any) -> str:
    """Write an array's numbers with the digits that its dtype needs."""
    if host.ndim:
        return f"[{', '.join(map(_numbers, host))}]"
    if host.dtype.kind != "f" or not np.isfinite(host):
        return _literal(host.item())
    return str(host[()])


def opening(place: Place, *, x64: bool) -> list[str]:
    """Write what a program at a place begins with: its `xp`, and its `device` if it has one."""
    lines = header(place.xp)
    if place.name == "jax" and x64:
        lines = ["import jax", 'jax.config.update("jax_enable_x64", True)', *lines]
    if place.device is not None:
        lines.append(f"device = {_device(place)}")
    return lines


def _device(place: Place) -> str:
    info = getattr(place.xp, "__array_namespace_info__", None)
    listed = list(info().devices()) if info is not None else []
    if place.device in listed:
        return f"xp.__array_namespace_info__().devices()[{listed.index(place.device)}]"
    return repr(str(place.device))
