"""Whether the first step of a graph is the eager step, to rounding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace, to_host
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step


class _Compared(NamedTuple):
    """What a graph computed, what the eager step does, and what was updated, if it was."""

    what: str
    ours: Array
    eager: Array
    before: Array | None = None


def difference(
    step: Step,
    params: Parameters,
    state: OptimizerState,
    batch: Mapping[str, Any],
    found: tuple[Array, Array, Parameters, dict[str, Parameters]],
) -> str:
    """Return how a step differs from the eager one beyond rounding, and how far; "" if it does not.

    `found` are the loss, the gradient, and the updated parameters and slots. The loss and the gradient
    are compared with the eager ones, and what was updated with the result of the eager rule for the
    gradient that was found: a rule such as Adam's turns the sign of a gradient that is nothing but
    rounding into a whole update.
    """
    loss, gradient, ours, slots = found
    value, grads, running = step.gradient(params, **batch)
    updated, after = step.optimizer.update(params, grads.replace(flat=gradient), state)
    compared = [
        _Compared("loss", loss, value),
        _Compared("gradient", gradient, grads.flat),
        _Compared("parameters", ours.flat, updated.flat, params.flat),
    ]
    for name, slot in slots.items():
        compared.append(_Compared(f'slot "{name}"', slot.flat, after.slots[name].flat))
    if ours.running is not None:
        compared.append(_Compared("running statistics", ours.running, running))
    return _first_that_differs(compared)


def _first_that_differs(compared: list[_Compared]) -> str:
    """Describe which of two arrays of one dtype differ; everything is read in one transfer."""
    xp = namespace(compared[0].eager)
    eps = float(np.finfo(dtype_name(compared[0].eager)).eps)
    lengths = [
        _length(xp, array)
        for _, ours, eager, before in compared
        for array in (ours - eager, eager if before is None else eager - before, eager)
    ]
    found = iter(to_host(xp.stack(lengths)).tolist())
    for (what, *_), apart, change, size in zip(compared, found, found, found, strict=True):
        # Where the eager step is not finite there is nothing to compare.
        if math.isfinite(size) and not apart <= 10 * eps**0.5 * change + 8 * eps * size:
            far = f"{apart:.1e}, where the eager one is {size:.1e}"
            return f"the {what} of its first step is off by {far}"
    return ""


def _length(xp: Any, x: Array) -> Array:
    """Compute the Euclidean norm of all numbers; they are scaled, so that no square overflows."""
    largest = xp.max(xp.abs(x))
    scale = xp.where(largest > 0.0, largest, xp.ones_like(largest))
    return largest * xp.sqrt(xp.sum(xp.square(x / scale)))
