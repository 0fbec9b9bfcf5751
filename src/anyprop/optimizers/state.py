"""What an optimizer carries from one update to the next, and the arrays that an update is about."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from anyprop import _tree
from anyprop._autograd import detached
from anyprop._checks import is_scalar_array
from anyprop._typing import Array, Number, Tree
from anyprop.backend import (
    check_array,
    check_same_place,
    create,
    dtype_name,
    keep_freed_memory,
    memory_range,
    namespace,
    on_device_of,
)
from anyprop.parameters import Parameters


class OptimizerState(NamedTuple):
    """What an optimizer carries from one update to the next.

    Parameters
    ----------
    step : int
        Updates done so far.
    lr_scale : float
        Factor on the learning rate; 1 unless a callback such as `ReduceLROnPlateau` changes it.
    slots : dict of str to tree
        What the rule remembers, by name; each has the structure and shapes of the parameters.
    decay_mask : tree, optional
        1 where weight decay applies and 0 elsewhere; None where it applies everywhere or nowhere.
    """

    step: int | Number
    lr_scale: float | Number
    slots: dict[str, Tree]
    decay_mask: Tree | None = None

    def copy(self) -> OptimizerState:
        """Copy the slots, so that the copy outlives an update of the original in place."""
        slots = {name: _tree.map_leaves(_copied, slot) for name, slot in self.slots.items()}
        return self._replace(slots=slots)


def _copied(array: Array) -> Array:
    return namespace(array).asarray(array, copy=True)


class _Keeps(Protocol):
    """The settings of an optimizer on which its state depends."""

    @property
    def weight_decay(self) -> float: ...
    @property
    def decay_biases(self) -> bool: ...
    def slots(self) -> dict[str, float | None]: ...


def on_device_of_first(params: Tree) -> AbstractContextManager[Any]:
    """Return a context in which everything is computed on the device of the first array of a tree."""
    if isinstance(params, Parameters):
        return on_device_of(params.flat)
    return on_device_of(next(iter(_tree.leaves(params)), None))


def initial_state(optimizer: _Keeps, params: Tree) -> OptimizerState:
    """Return the state from which the first update starts."""
    for leaf in _tree.leaves(params):
        check_array("params", leaf)
        _check_dtype(optimizer, leaf)
        keep_freed_memory(leaf)
    if isinstance(params, Parameters):  # its running statistics are not ours
        params = Parameters(params.layout, params.flat)
    slots = {
        name: _tree.map_leaves(partial(_filled, value=initial), params)
        for name, initial in optimizer.slots().items()
        if initial is not None
    }
    mask = None
    if _masks(optimizer):
        mask = _tree.map_arrays(lambda p: _filled(p, 1.0 if p.ndim >= 2 else 0.0), params)
    return OptimizerState(0, 1.0, slots, mask)


def check_kept(optimizer: _Keeps, slots: dict[str, Tree], mask: Tree | None) -> None:
    """Raise ValueError unless slots and mask are those of an optimizer of these options."""
    keeps = [name for name, initial in optimizer.slots().items() if initial is not None]
    if list(slots) != keeps and slots.keys() != set(keeps):
        raise ValueError(
            f"{type(optimizer).__name__} keeps {keeps or 'no slots'}, but the state has "
            f"{list(slots) or 'none'}; it comes from another optimizer or other options."
        )
    if (mask is None) == _masks(optimizer):
        raise ValueError(
            f"{type(optimizer).__name__} was made with decay_biases={optimizer.decay_biases} and "
            f"weight_decay={optimizer.weight_decay}, the state's optimizer was not; "
            "create the state with this optimizer's init."
        )


def _masks(optimizer: _Keeps) -> bool:
    return optimizer.weight_decay > 0.0 and not optimizer.decay_biases


def _check_dtype(optimizer: _Keeps, p: Array) -> None:
    xp = namespace(p)
    if not xp.isdtype(p.dtype, "real floating"):
        raise TypeError(f"parameters must be of a floating dtype, not {p.dtype}.")
    eps, smallest = getattr(optimizer, "eps", 1.0), 1.0 / float(xp.finfo(p.dtype).max)
    if eps < smallest:
        raise ValueError(
            f"{type(optimizer).__name__}: eps={eps:g} is too small for {dtype_name(p)}, "
            f"where 1 / eps is infinite; give an eps of at least {smallest:.2g}."
        )


def _filled(p: Array, value: float) -> Array:
    return create(namespace(p).full, p.shape, value, like=p, dtype=p.dtype)


def leaves_of_slot(name: str, slots: dict[str, Tree], params: Tree) -> list[Array]:
    """List the arrays of a slot in the order of the parameters, whose structure it must have."""
    return _tree.leaves_like(slots[name], params, names=(f"state.slots[{name!r}]", "params"))


def stored(
    results: tuple[Tree, dict[str, Tree]], buffers: tuple[Tree, dict[str, Tree]]
) -> tuple[Tree, dict[str, Tree]]:
    """Store new parameters and slots in donated ones, where these can be written to."""
    news = _tree.leaves(results)
    olds = _tree.leaves_like(buffers, results, names=("donated", "updated"))
    several = len(_tree.leaves(results[0])) > 1
    stored_in: tuple[Tree, dict[str, Tree]] = _tree.rebuild(
        results, _stored(olds, news, several=several)
    )
    return stored_in


def _stored(buffers: list[Array], news: list[Array], *, several: bool) -> list[Array]:
    # Of several leaves two may share memory; there a result stays where it is.
    ranges = [memory_range(buffer) for buffer in buffers] if several else []
    order = sorted((r, i) for i, r in enumerate(ranges) if r is not None)
    shared: set[int] = set()
    stop, last = -1, -1
    for (start, end), i in order:
        if start < stop:
            shared |= {i, last}
        if end > stop:
            stop, last = end, i
    return [
        new if i in shared else _written(buffer, new)
        for i, (buffer, new) in enumerate(zip(buffers, news, strict=True))
    ]


def _written(buffer: Array, new: Array) -> Array:
    try:
        buffer[...] = new
    except (TypeError, ValueError, RuntimeError):
        # JAX arrays and NumPy scalars; read-only memory; tensors whose entries share memory
        return new
    return detached(buffer)


def check_beside(params: Tree, grads: Tree, state: OptimizerState) -> None:
    """Raise unless what an update is given has one structure, and is in one place and dtype."""
    if type(params) is Parameters and not is_scalar_array(state.step):
        vector, layout = params.flat, params.layout
        for other in (grads, *state.slots.values()):
            if type(other) is not Parameters or other.layout is not layout:
                break
            if type(other.flat) is not np.ndarray or other.flat.dtype != vector.dtype:
                break
        else:
            if type(vector) is np.ndarray:  # as in nearly every step: no need to walk
                return
    gs = _tree.leaves_like(grads, params, names=("grads", "params"))
    ps = _tree.leaves(params)
    slots = {name: leaves_of_slot(name, state.slots, params) for name in state.slots}
    if ps and is_scalar_array(state.step):
        beside(ps[0], state.step, "state.step")
    for p, *others in zip(ps, gs, *slots.values(), strict=True):
        named = list(zip(("grads", *slots), others, strict=True))
        check_same_place([("params", p), *named])
        for name, array in named:
            if p.dtype != array.dtype:
                raise TypeError(
                    f"params are {dtype_name(p)}, but {name} {dtype_name(array)}; cast one of them."
                )


def beside(p: Array, number: Number, name: str) -> Number:
    """Return an array of shape () in the dtype of `p`, for it counts in type promotion."""
    if not hasattr(number, "dtype"):
        return number
    if isinstance(number, np.generic):  # what NumPy makes of arrays of shape ()
        return float(number)
    return check_same_place([("params", p), (name, number)]).astype(number, p.dtype, copy=False)
