"""Learning rates and counts of steps that are arrays of shape ()."""

from __future__ import annotations

from anyprop import _tree
from anyprop._typing import Array, Number, Tree
from anyprop.backend import dtype_name, namespace
from anyprop.optimizers.state import beside


def check_lr_array(owner: str, lr: Array) -> None:
    """Raise TypeError unless a learning rate is of a floating dtype."""
    # Its value stays unread: it may be traced, or be written to later.
    if not namespace(lr).isdtype(lr.dtype, "real floating"):
        raise TypeError(f"{owner}: lr must be of a floating dtype, not {dtype_name(lr)}.")


def beside_slots(slots: dict[str, Tree], lr: Number, t: Number) -> tuple[Number, Number]:
    """Return learning rate and count in the dtype of the slots, which is that of the parameters."""
    leaves = [leaf for slot in slots.values() for leaf in _tree.leaves(slot)]
    if not leaves:
        return lr, t
    widest = max(leaves, key=lambda leaf: namespace(leaf).finfo(leaf.dtype).bits)
    return beside(widest, lr, "lr", wide=True), beside(widest, t, "state.step", wide=True)
