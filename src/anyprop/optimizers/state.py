"""What an optimizer carries from one update to the next, and the arrays that an update is about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anyprop import _tree
from anyprop._autograd import detached
from anyprop._typing import Array, Number, Tree
from anyprop.backend import check_same_place, dtype_name, memory_range, namespace


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


class Leaves(NamedTuple):
    """The arrays of parameters and slots, all in the order of the parameters.

    Parameters
    ----------
    params : list of array
        Those of the parameters.
    slots : dict of str to list of array
        Those of each slot.
    """

    params: list[Array]
    slots: dict[str, list[Array]]

    @classmethod
    def of(cls, params: Tree, slots: dict[str, Tree]) -> Leaves:
        """List the arrays of trees, which must be of one structure."""
        return cls(
            _tree.leaves(params),
            {
                name: _tree.leaves_like(slot, params, names=(f"state.slots[{name!r}]", "params"))
                for name, slot in slots.items()
            },
        )

    def rebuilt(self, params: Tree, slots: dict[str, Tree]) -> tuple[Tree, dict[str, Tree]]:
        """Make trees of the structure of others."""
        rebuilt = {
            name: _tree.rebuild(slots[name], new, order=params) for name, new in self.slots.items()
        }
        return _tree.rebuild(params, self.params), rebuilt

    def stored_in(self, buffers: Leaves) -> Leaves:
        """Put the arrays into donated buffers, where these can be written to."""
        several = len(self.params) > 1
        arrays = iter(_stored(buffers._all, self._all, several=several))
        params = [next(arrays) for _ in self.params]
        return Leaves(params, {name: [next(arrays) for _ in of] for name, of in self.slots.items()})

    @property
    def _all(self) -> list[Array]:
        return [*self.params, *(array for of_slot in self.slots.values() for array in of_slot)]


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


def check_beside(leaves: Leaves, grads: list[Array]) -> None:
    """Raise TypeError unless parameters, gradients and slots are beside each other, in one dtype."""
    names = ["grads", *leaves.slots]
    for p, *others in zip(leaves.params, grads, *leaves.slots.values(), strict=True):
        check_same_place([("params", p), *zip(names, others, strict=True)])
        for name, array in zip(names, others, strict=True):
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
