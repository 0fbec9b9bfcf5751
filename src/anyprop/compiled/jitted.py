"""The compiled step on JAX: gradient and update in one `jax.jit`.

Parameters and slots are donated. The learning rate and the other numbers of a step are computed on the
host and handed over as arguments, so any function can be a schedule, and the count of steps stays a
Python int.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from anyprop._typing import Array
from anyprop.compiled.recording import TraceError
from anyprop.optimizers.base import OptimizerState
from anyprop.parameters import Parameters
from anyprop.training.step import Step


class JittedStep:
    """A step on JAX arrays, traced anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    """

    def __init__(self, step: Step) -> None:
        self._opt = step.opt

        def compute(
            params: Parameters, slots: Any, mask: Any, numbers: Any, batch: dict[str, Any]
        ) -> tuple[Parameters, Any, Array]:
            value, grads = step.gradient(params, **batch)
            before = OptimizerState(0, 1.0, slots, mask)
            params, after = step.opt.update_with(params, grads, before, *numbers)
            return params, after.slots, value

        self._compute = importlib.import_module("jax").jit(compute, donate_argnums=(0, 1))

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        x: Array,
        t: Array,
        *,
        noise: Any = None,
        sample_weight: Array | None = None,
    ) -> tuple[Parameters, OptimizerState, Array]:
        lr = self._opt.learning_rate(state)
        numbers = lr, self._opt.scalars(state.step + 1, lr)
        batch = {"x": x, "t": t, "noise": noise, "sample_weight": sample_weight}
        with untraceable():
            params, slots, value = self._compute(
                params, state.slots, state.decay_mask, numbers, batch
            )
        return params, state._replace(step=state.step + 1, slots=slots), value


@contextlib.contextmanager
def untraceable() -> Iterator[None]:
    """Turn what tracing raises where it needs the numbers of an array into `TraceError`."""
    errors = importlib.import_module("jax").errors
    try:
        yield
    except (
        errors.ConcretizationTypeError,
        errors.NonConcreteBooleanIndexError,
        errors.TracerArrayConversionError,
        errors.TracerIntegerConversionError,
    ) as error:
        what = str(error).partition("\n")[0].rstrip(".")
        raise TraceError(f"JAX cannot trace it ({what})") from error
