"""Base of the book's optimizers: what one remembers of each parameter, and the update of a dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anyprop._checks import check_shape, few, kind
from anyprop._numerics import cast, largest_of
from anyprop._typing import Array
from anyprop._usage import Advising
from anyprop.backend import (
    check_same_place,
    device_of,
    dtype_name,
    from_host,
    namespace,
    to_host,
)
from anyprop.book.holding import replace
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState


@dataclass
class BookOptimizer(Advising):
    """An optimizer that remembers its state; its settings may be changed between updates.

    Raises
    ------
    TypeError, ValueError
        A setting of an optimizer is of another kind, or out of its range.
    """

    _states: dict[str, OptimizerState] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        self._optimizer()

    def _optimizer(self) -> Optimizer:
        raise NotImplementedError

    def update(self, params: dict[str, Any], grads: dict[str, Any]) -> None:
        """Update the parameters once.

        Parameters
        ----------
        params : dict of str to array or float
            Parameters; they change in place where arrays can be written to. Elsewhere the dict gets
            new ones, and so does every layer of `anyprop.book` that held one of the old.
        grads : dict of str to array or float
            Gradients under the same names, and of any dtype; other names are not read.

        Raises
        ------
        TypeError, ValueError
            A gradient is missing, or its shape or namespace differs from the parameter's. Then
            nothing is changed.
        """
        for name, given in (("params", params), ("grads", grads)):
            if not isinstance(given, Mapping):
                raise TypeError(f"{name} must be a dict of arrays by name, not {kind(given)}.")
        optimizer, old = self._optimizer(), dict(params)
        if missing := old.keys() - grads.keys():
            raise ValueError(
                f"grads and params differ: there is no gradient of {few(sorted(missing))}."
            )
        checked = {name: _beside(name, p, grads[name]) for name, p in old.items()}
        for name, (p, _) in checked.items():
            _check_eps(name, p, optimizer)
        states = {
            name: self._states.get(name) or optimizer.init(p) for name, (p, _) in checked.items()
        }
        for name, (p, _) in checked.items():
            _check_state(name, p, states[name])

        new: dict[int, Array] = {}
        for name, (p, g) in checked.items():
            p = new.get(id(p), p)  # one array may have two names
            updated, self._states[name] = optimizer.update(p, g, states[name], donate=True)
            if checked[name][0] is not old[name]:
                params[name] = _like(old[name], updated)
            elif updated is not old[name]:
                new[id(old[name])] = updated
        replace(new, params)


def remembered(slot: str, *, negated: bool = False) -> Any:
    """Return a property: a slot of every parameter by name; None before the first update."""

    def read(optimizer: BookOptimizer) -> dict[str, Array] | None:
        arrays = {name: state.slots[slot] for name, state in optimizer._states.items()}
        return {name: -a if negated else a for name, a in arrays.items()} or None

    return property(read)


def _beside(name: str, p: Any, g: Any) -> tuple[Array, Array]:
    """Return a parameter and its gradient as arrays of the parameter's shape, dtype and place."""
    p_name, g_name = f"params[{name!r}]", f"grads[{name!r}]"
    if g is None:
        raise TypeError(f"{g_name} is None; call backward before update.")
    if _is_number(p):
        p = np.array(p, dtype=p.dtype if isinstance(p, np.floating) else np.float64)
        g = np.asarray(g if _is_number(g) else to_host(g))
    elif _is_number(g):
        g = from_host(g, namespace(p), dtype=dtype_name(p), device=device_of(p))
    xp = check_same_place([(p_name, p), (g_name, g)])
    check_shape(g_name, g, p.shape)
    if not xp.isdtype(p.dtype, "real floating"):
        raise TypeError(f"{p_name} must be of a floating dtype, not {dtype_name(p)}.")
    if not xp.isdtype(g.dtype, ("real floating", "integral")):
        raise TypeError(f"{g_name} must be of a real dtype, not {dtype_name(g)}.")
    return p, cast(xp, g, p.dtype)


def _check_eps(name: str, p: Array, optimizer: Optimizer) -> None:
    """Raise TypeError if the book's 1e-7, which cannot be chosen, is too small for the dtype."""
    eps, largest = getattr(optimizer, "eps", 1.0), largest_of(namespace(p), p.dtype)
    if eps * largest < 1.0:
        raise TypeError(
            f"params[{name!r}] is {dtype_name(p)}, for which the {eps:g} of "
            f"{type(optimizer).__name__} is too small; cast it to float32."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.generic))


def _like(number: Any, updated: Array) -> Any:
    return type(number)(updated) if isinstance(number, (float, np.floating)) else float(updated)


def _check_state(name: str, p: Array, state: OptimizerState) -> None:
    for slot in state.slots.values():
        same = namespace(slot) is namespace(p) and device_of(slot) == device_of(p)
        if not same or slot.shape != p.shape or slot.dtype != p.dtype:
            raise ValueError(
                f"this optimizer knows {name!r} as {_described(slot)}, and now it is "
                f"{_described(p)}; make an optimizer for each network."
            )


def _described(array: Array) -> str:
    return f"{dtype_name(array)} of shape {tuple(array.shape)} ({kind(array)})"
