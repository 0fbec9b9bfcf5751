"""Whether a state can be continued from: checks that are made where one is handed over."""

from __future__ import annotations

import math
from typing import Any

from anyprop._checks import check_shape, is_scalar_array, kind, non_negative, returned, whole
from anyprop._typing import Array, Tree
from anyprop.backend import dtype_name
from anyprop.optimizers.state import OptimizerState, check_beside, check_same_kept


def check_continues(state: OptimizerState, params: Tree, kept: OptimizerState) -> None:
    """Raise unless a state of these parameters can take the place of `kept`."""
    check_kind_and_scale(state, "optimizer")
    masks = kept.decay_mask is not None
    check_same_kept("the optimizer", kept.slots, masks, state.slots, state.decay_mask)
    if not is_scalar_array(state.step):
        whole("state.step", state.step)
    if state.slots is not kept.slots:
        check_beside(params, params, state)


def check_kind_and_scale(state: OptimizerState, owner: str) -> None:
    """Raise unless a state is one, and its `lr_scale`, if it is read, a number of at least 0."""
    if not isinstance(state, OptimizerState):
        raise TypeError(f"state must be what {owner}.init() returns, not {kind(state)}.")
    scale = state.lr_scale
    if type(scale) is float and 0.0 <= scale < math.inf:
        return  # at once, as each update asks
    if not is_scalar_array(scale):
        non_negative("state", "lr_scale", scale)


def check_dtypes(p: Array, slot: list[Array | float]) -> None:
    """Raise TypeError unless what is remembered of an array has its dtype; 0.0 stands for nothing."""
    for array in slot:
        if not isinstance(array, float) and array.dtype != p.dtype:
            raise TypeError(
                f"params are {dtype_name(p)}, but a slot of the state is {dtype_name(array)}; "
                "cast one of them."
            )


def check_updated(owner: str, new: Any, old: tuple[Array | float, ...]) -> tuple[Any, ...]:
    """Return what a rule makes of a parameter and its slots; raise unless it is a tuple of such."""
    if not isinstance(new, tuple) or len(new) != len(old):
        raise TypeError(
            f"the rule of {owner} must return a tuple of {len(old)}, the parameter and each slot, not "
            f"{returned(new)}."
        )
    for array, before in zip(new, old, strict=True):
        if not isinstance(before, float) and array.shape != before.shape:
            check_shape(f"an array that the rule of {owner} returns", array, before.shape)
    return new
