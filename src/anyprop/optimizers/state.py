"""What an optimizer carries from one update to the next, and the arrays that an update is about."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from anyprop import _tree
from anyprop._autograd import detached
from anyprop._checks import is_scalar_array
from anyprop._numerics import cast, is_floating, largest_of, wide_dtype
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
        return self._replace(slots={name: _copied(slot) for name, slot in self.slots.items()})


def _copied(tree: Tree) -> Tree:
    if isinstance(tree, Parameters):  # which may be in parts, and remain so
        return tree.copy()
    return _tree.map_leaves(lambda array: namespace(array).asarray(array, copy=True), tree)


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


def check_kept(
    optimizer: _Keeps, slots: dict[str, Tree], mask: Tree | None
) -> dict[str, float | None]:
    """Return an optimizer's slots; raise ValueError unless slots and mask are those of its options."""
    initial = optimizer.slots()
    keeps = [name for name, value in initial.items() if value is not None]
    check_same_kept(type(optimizer).__name__, keeps, _masks(optimizer), slots, mask)
    return initial


def check_same_kept(
    owner: str, keeps: Collection[str], masks: bool, slots: dict[str, Tree], mask: Tree | None
) -> None:
    """Raise ValueError unless slots are those that an optimizer keeps, and there is a mask if it has."""
    if slots.keys() != set(keeps):
        raise ValueError(
            f"{owner} keeps {list(keeps) or 'no slots'}, but the state has {list(slots) or 'none'}; "
            "it comes from another optimizer or other options."
        )
    if (mask is not None) != masks:
        raise ValueError(
            f"state has {'no' if masks else 'a'} decay_mask, so its optimizer had another weight_decay "
            "or decay_biases; create the state with this optimizer's init."
        )


def _masks(optimizer: _Keeps) -> bool:
    return optimizer.weight_decay > 0.0 and not optimizer.decay_biases


def _check_dtype(optimizer: _Keeps, p: Array) -> None:
    xp = namespace(p)
    if not is_floating(xp, p.dtype):
        raise TypeError(f"parameters must be of a floating dtype, not {p.dtype}.")
    largest = largest_of(xp, p.dtype)
    for name, initial in optimizer.slots().items():
        if initial is not None and initial > largest:
            raise ValueError(
                f"{type(optimizer).__name__}: the slot {name} starts at {initial:g}, but the largest "
                f"{dtype_name(p)} is {largest:.5g}; give a smaller initial value."
            )
    eps, smallest = getattr(optimizer, "eps", 1.0), 1.0 / largest
    if eps < smallest:
        raise ValueError(
            f"{type(optimizer).__name__}: eps={eps:g} is too small for {dtype_name(p)}, "
            f"where 1 / eps is infinite; give an eps of at least "
            f"{1.05 * smallest:.2g}."  # whose two digits are not below it
        )


def _filled(p: Array, value: float) -> Array:
    return create(namespace(p).full, p.shape, value, like=p, dtype=p.dtype)


def leaves_of_slot(name: str, slots: dict[str, Tree], params: Tree) -> list[Array]:
    """List the arrays of a slot in the order of the parameters, whose structure it must have."""
    return _tree.leaves_like(slots[name], params, names=(f"state.slots[{name!r}]", "params"))


def by_leaf(
    update: Callable[[Array, Array, Array | float, list[Any]], tuple[Any, ...]],
    params: Tree,
    grads: Tree,
    slots: dict[str, Tree],
    mask: Tree | None,
    names: Iterable[str],
) -> tuple[Tree, dict[str, Tree]]:
    """Update a tree leaf by leaf.

    Parameters
    ----------
    update : callable
        ``(p, g, m, slots) -> (p, *slots)`` for a leaf; where there is no mask, m is 1.0, and a slot that
        is left out is 0.0.
    params, grads, slots, mask
        As `Optimizer.apply` takes them.
    names : iterable of str
        All slots of the rule, in its order.

    Returns
    -------
    params, slots
        Updated, of the structures given.
    """
    if mask is None and _share_layout(params, grads, slots):  # as nearly always: nothing to walk
        kept = [slots[name].flat if name in slots else 0.0 for name in names]
        p, *new = update(params.flat, grads.flat, 1.0, kept)
        of_slots = dict(zip(names, new, strict=True))
        return Parameters(params.layout, p, params.running), {
            name: Parameters(slot.layout, of_slots[name]) for name, slot in slots.items()
        }
    ps = _tree.leaves(params)
    gs = _tree.leaves_like(grads, params, names=("grads", "params"))
    masks: list[Any] = [1.0] * len(ps)
    if mask is not None:
        masks = _tree.leaves_like(mask, params, names=("state.decay_mask", "params"))
    columns = {
        name: leaves_of_slot(name, slots, params) if name in slots else [0.0] * len(ps)
        for name in names
    }
    for i, (p, g, m, *slot) in enumerate(zip(ps, gs, masks, *columns.values(), strict=True)):
        ps[i], *new = update(p, g, m, slot)
        for column, array in zip(columns.values(), new, strict=True):
            column[i] = array
    return _tree.rebuild(params, ps), {
        name: _tree.rebuild(slot, columns[name], order=params) for name, slot in slots.items()
    }


def _share_layout(params: Tree, grads: Tree, slots: dict[str, Tree]) -> bool:
    """Return whether all are `Parameters` of one layout, so that each is a vector of the same places."""
    if type(params) is not Parameters:
        return False
    layout = params.layout
    for other in (grads, *slots.values()):
        if type(other) is not Parameters or other.layout is not layout:
            return False
    return True


def stored(
    results: tuple[Tree, dict[str, Tree]], buffers: tuple[Tree, dict[str, Tree]]
) -> tuple[Tree, dict[str, Tree]]:
    """Store new parameters and slots in donated ones, where these can be written to."""
    (params, slots), (donated, kept) = results, buffers
    if slots.keys() == kept.keys() and _share_layout(donated, params, slots):  # nothing to walk
        return params._tree_rebuild([_written(donated.flat, params.flat)]), {
            name: slot._tree_rebuild([_written(kept[name].flat, slot.flat)])
            for name, slot in slots.items()
        }
    news = _tree.leaves(results)
    olds = _tree.leaves_like(buffers, results, names=("donated", "updated"))
    several = len(_tree.leaves(params)) > 1
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
    if not is_scalar_array(state.step) and _share_layout(params, grads, state.slots):
        vector = params.flat
        for other in (params, grads, *state.slots.values()):
            if type(other.flat) is not np.ndarray or other.flat.dtype != vector.dtype:
                break
        else:  # as in nearly every step: no need to walk
            return
    gs = _tree.leaves_like(grads, params, names=("grads", "params"))
    ps = _tree.leaves(params)
    slots = {name: leaves_of_slot(name, state.slots, params) for name in state.slots}
    if ps and is_scalar_array(state.step):
        beside(ps[0], state.step, "state.step", wide=True)
    for p, *others in zip(ps, gs, *slots.values(), strict=True):
        named = list(zip(("grads", *slots), others, strict=True))
        check_same_place([("params", p), *named])
        for name, array in named:
            if p.dtype != array.dtype:
                raise TypeError(
                    f"params are {dtype_name(p)}, but {name} {dtype_name(array)}; cast one of them."
                )


def beside(p: Array, number: Number, name: str, *, wide: bool = False) -> Number:
    """Return an array of shape () in the dtype of `p`, for it counts in type promotion.

    `wide` is to return one of 16 bits in float32, in which steps can be counted.
    """
    if not hasattr(number, "dtype"):
        return number
    if isinstance(number, np.generic):  # what NumPy makes of arrays of shape ()
        return float(number)
    xp = check_same_place([("params", p), (name, number)])
    return cast(xp, number, wide_dtype(xp, p.dtype) if wide else p.dtype)
