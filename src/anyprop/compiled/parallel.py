"""The compiled step on several ranks.

NumPy     one plan, in which the all-reduce is a call among the others
JAX       the gradient of this rank's rows and the update are jitted, with the all-reduce between them
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from anyprop._typing import Array
from anyprop.compiled.jitted import JittedStep, untraceable
from anyprop.compiled.planned import PlannedStep
from anyprop.compiled.traces import traced_twice
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step

Parts = Sequence[Mapping[str, Any]]


class PlannedParallelStep:
    """A data-parallel step on NumPy arrays.

    Parameters
    ----------
    step : DataParallelStep
        What to plan.
    """

    def __init__(self, step: DataParallelStep) -> None:
        def gradient(
            params: Parameters, x: Array, t: Array, *, noise: Any, sample_weight: Array | None
        ) -> tuple[Array, Parameters]:
            drawn, *others = noise
            first = {"x": x, "t": t, "noise": drawn, "sample_weight": sample_weight}
            return step.gradient(params, [first, *others])

        self._planned = PlannedStep(Step(gradient, step.opt))

    def __call__(
        self, params: Parameters, state: OptimizerState, parts: Parts
    ) -> tuple[Parameters, OptimizerState, Array]:
        first, *others = parts
        # What belongs to the other parts travels in the tree that stands for the noise.
        return self._planned(
            params,
            state,
            first["x"],
            first["t"],
            noise=(first.get("noise"), *map(dict, others)),
            sample_weight=first.get("sample_weight"),
        )


class JittedParallelStep:
    """A data-parallel step on JAX arrays.

    Parameters
    ----------
    step : DataParallelStep
        What to compile.
    """

    def __init__(self, step: DataParallelStep) -> None:
        def recorded(time: int, *args: Any, **part: Any) -> tuple[Array, Array | None]:
            return step.local(*args, **part)

        jitted = importlib.import_module("jax").jit(traced_twice(recorded, step))

        def local(params: Parameters, **part: Any) -> tuple[Array, Array | None]:
            with untraceable():
                result: tuple[Array, Array | None] = jitted(params, **part)
            return result

        def means(params: Parameters, x: Array, t: Array, **none: Any) -> tuple[Array, Parameters]:
            value, grads = step.means(params, x)
            return value, grads.replace(running=params.running)

        self._step = replace(step, local=local)
        self._update = JittedStep(Step(means, step.opt))

    def __call__(
        self, params: Parameters, state: OptimizerState, parts: Parts
    ) -> tuple[Parameters, OptimizerState, Array]:
        message, running = self._step.summed(params, parts)
        message = self._step.all_reduce(message)  # stands for a batch from here on
        return self._update(params.replace(running=running), state, message, message)
