"""The step on CuPy: each operation as it comes, and the optimizer's update as one kernel.

The kernel is made of the rule's own definition, weight decay and `clip_value` included; it updates
parameters and state where they lie. What depends on norms of the gradient is done before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from anyprop._typing import Array, Number
from anyprop.backend import dtype_name
from anyprop.compiled.cuda_kernels import can_be_written, kernel_source
from anyprop.compiled.trace import Recording, Traced, TraceError
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState, beside
from anyprop.parameters import Parameters
from anyprop.step import Gradient, Step


class FusedUpdateStep:
    """A step on CuPy arrays whose update is one kernel.

    Parameters
    ----------
    step : Step or DataParallelStep
        What to do.
    """

    def __init__(self, step: Step | DataParallelStep) -> None:
        self._gradient: Gradient = step.gradient
        self._update = FusedUpdate(step.optimizer)

    def __call__(
        self, params: Parameters, state: OptimizerState, *batch: Any, **options: Any
    ) -> tuple[Parameters, OptimizerState, Array]:
        value, grads, running = self._gradient(params, *batch, **options)
        params, state = self._update(params, grads, state)
        return params.replace(running=running), state, value


class FusedUpdate:
    """An optimizer's update of parameters and state in one kernel.

    Parameters
    ----------
    opt : Optimizer
        Whose rule it does.
    """

    def __init__(self, opt: Optimizer) -> None:
        self._opt = opt
        self._kernels: dict[Any, _Kernel | None] = {}

    def __call__(
        self, params: Parameters, grads: Parameters, state: OptimizerState
    ) -> tuple[Parameters, OptimizerState]:
        slots, mask = state.slots, state.decay_mask
        dtypes = {name: dtype_name(slot.flat) for name, slot in slots.items()}
        key = (dtype_name(params.flat), *dtypes.items(), mask is None)
        if key not in self._kernels:
            self._kernels[key] = _make_kernel(self._opt, dtype_name(params.flat), dtypes, mask)
        kernel = self._kernels[key]
        if kernel is None:
            return self._opt.update(params, grads, state, donate=True)
        lr, scalars = self._opt.numbers(state)
        arrays: dict[str, Array | Number] = {"p": params.flat, "lr": beside(params.flat, lr, "lr")}
        arrays["g"] = self._opt.clip_norms(grads).flat
        arrays |= {_scalar(name): beside(params.flat, s, name) for name, s in scalars.items()}
        arrays |= {_slot(name): slot.flat for name, slot in slots.items()}
        if mask is not None:
            arrays["mask"] = mask.flat
        kernel.launch(*(arrays[name] for name in (*kernel.inputs, *kernel.outputs)))
        return params, state._replace(step=state.step + 1)


class _Kernel(NamedTuple):
    """A kernel, and the names of what it reads and writes."""

    launch: Callable[..., Any]
    inputs: list[str]
    outputs: list[str]


def _make_kernel(
    opt: Optimizer, dtype: str, slot_dtypes: dict[str, str], mask: Any
) -> _Kernel | None:
    """Record the rule on vectors that stand for those to come; None if it cannot be written down."""

    def vector(dtype: str) -> Traced:
        return Recording.given(np.ones(2, dtype))

    def number() -> Traced:
        return Recording.given(np.ones((), dtype))

    slots = {name: vector(of_slot) for name, of_slot in slot_dtypes.items()}
    given = {"p": vector(dtype), "g": vector(dtype), "lr": number()}
    scalars = {name: number() for name in opt.scalars(1, 1.0)}
    given_mask = None if mask is None else vector(dtype)
    elementwise = replace(opt, clip_norm=None, clip_global_norm=None)
    try:
        with np.errstate(all="ignore"), Recording() as recording:
            numbers = given["lr"], scalars
            p, after = elementwise.apply(given["p"], given["g"], slots, given_mask, numbers)
    except TraceError:
        return None
    if not all(map(can_be_written, recording.calls)):
        return None
    given |= {_scalar(name): x for name, x in scalars.items()}
    given |= {_slot(name): x for name, x in slots.items()}
    if given_mask is not None:
        given["mask"] = given_mask
    name_of = {traced.value: name for name, traced in given.items()}
    results = {"p": p} | {_slot(name): slot for name, slot in after.items()}
    source = kernel_source(recording.calls, [x.value for x in results.values()])
    if not name_of.keys() >= set(source.inputs):
        return None  # it reads an array of its own
    inputs = [name_of[value] for value in source.inputs]
    return _Kernel(source.kernel("anyprop_update"), inputs, list(results))


def _slot(name: str) -> str:
    return f"slot {name}"


def _scalar(name: str) -> str:
    return f"scalar {name}"
