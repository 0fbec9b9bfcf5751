"""The compiled step on JAX: gradient and update in one `jax.jit`.

Parameters and slots are donated. The learning rate and the other numbers of a step are computed on the
host and handed over in one vector, so any function can be a schedule, and the count of steps stays a
Python int. On several ranks the gradient of this rank's rows and the update are jitted, with the
all-reduce between them.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.compiled.program import listed
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.optimizers.base import Numbers, Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.jaxprs import traced_twice
from anyprop.repeatable.ours import is_constant
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step


class JittedStep:
    """A step on JAX arrays, traced anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    """

    def __init__(self, step: Step) -> None:
        self._optimizer = step.optimizer
        self._compute = _jitted(_one, step)

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        numbers = _packed(self._optimizer.numbers(state), params)
        with untraceable():
            params, slots, value = self._compute(
                params, state.slots, state.decay_mask, numbers, batch
            )
        return params, state._replace(step=state.step + 1, slots=slots), value


class JittedParallelStep:
    """A step of several ranks on JAX arrays.

    Parameters
    ----------
    step : DataParallelStep
        What to compile.
    """

    def __init__(self, step: DataParallelStep) -> None:
        def local(time: int, *args: Any, **part: Any) -> tuple[Array, Array | None]:
            return step.local(*args, **part)

        def finished(
            time: int, params: Any, slots: Any, mask: Any, numbers: Any, *rest: Any
        ) -> Any:
            return step.finished(params, slots, mask, _unpacked(numbers, step.optimizer), *rest)

        jit = importlib.import_module("jax").jit
        jitted = jit(traced_twice(local, step))
        self._finished = jit(traced_twice(finished, step), donate_argnums=(0, 1))

        def compiled(params: Parameters, **part: Any) -> tuple[Array, Array | None]:
            with untraceable():
                result: tuple[Array, Array | None] = jitted(params, **part)
            return result

        self._step = replace(step, local=compiled)

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Sequence[Mapping[str, Any]]
    ) -> tuple[Parameters, OptimizerState, Array]:
        message, running = self._step.summed(params, batch)
        message = self._step.all_reduce(message)
        numbers = _packed(self._step.optimizer.numbers(state), params)
        with untraceable():
            params, slots, value = self._finished(
                params, state.slots, state.decay_mask, numbers, message, running
            )
        return params, state._replace(step=state.step + 1, slots=slots), value


def jitted_gradient(function: Callable[[Parameters, Any], Any]) -> Callable[[Parameters, Any], Any]:
    """Compile a function of parameters and a batch on JAX arrays."""

    def once(time: int, params: Parameters, batch: Any) -> Any:
        return function(params, batch)

    jitted = importlib.import_module("jax").jit(traced_twice(once, function))

    def compiled(params: Parameters, batch: Any) -> Any:
        with untraceable():
            return jitted(params, batch)

    return compiled


class JittedLoop:
    """Many steps on JAX arrays in one call, without the cost of starting each.

    However many steps a call does, the same compiled loop does them, so how a run is divided into
    calls changes nothing.

    Parameters
    ----------
    step : Step
        What to compile.
    most : int >= 1
        How many steps a call does at most.
    """

    def __init__(self, step: Step, most: int) -> None:
        self._optimizer, self._most = step.optimizer, most
        self._compute = _jitted(_many, step)

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        data: Mapping[str, Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, list[float]]:
        """Do a step with each batch.

        Parameters
        ----------
        params, state
            As a step takes them; donated.
        data : mapping
            What a step takes by name, with the rows of all batches.
        batches : sequence of numpy.ndarray, shape (N,), int
            The rows of each batch.

        Returns
        -------
        params, state
            As a step returns them.
        values : list of float
            The loss of each batch.
        """
        done, numbers = len(batches), []
        for _ in batches:
            numbers.append(listed(self._optimizer.numbers(state)))
            state = state._replace(step=state.step + 1)

        def filled(of_steps: Sequence[Any], dtype: Any) -> Any:
            column = np.zeros((self._most, len(of_steps[0])), dtype)
            column[:done] = of_steps
            return column

        rows, table = filled(batches, batches[0].dtype), filled(numbers, params.flat.dtype)
        with untraceable():
            params, slots, values = self._compute(
                params, state.slots, state.decay_mask, done, table, rows, data
            )
        return params, state._replace(slots=slots), np.asarray(values)[:done].tolist()


def _jitted(kind: Callable[[Step], Callable[..., Any]], step: Step) -> Callable[..., Any]:
    """Jit the function that `kind` makes of a step; for an equal step, it is the one made before."""
    return (_jit_once if is_constant(step) else _jit)(kind, step)


def _jit(kind: Callable[[Step], Callable[..., Any]], step: Step) -> Callable[..., Any]:
    jitted: Callable[..., Any] = importlib.import_module("jax").jit(
        traced_twice(kind(step), step), donate_argnums=(0, 1)
    )
    return jitted


_jit_once = lru_cache(maxsize=16)(_jit)


def _packed(numbers: Numbers, params: Parameters) -> Any:
    """Put the numbers of a step into one vector of NumPy, which is one argument to hand over."""
    of_step = listed(numbers)
    if any(
        hasattr(number, "dtype") for number in of_step
    ):  # they may be on a device: not read here
        return numbers
    return np.asarray(of_step, params.flat.dtype)


def _unpacked(numbers: Any, optimizer: Optimizer) -> Numbers:
    """Undo `_packed`, where it is traced."""
    if isinstance(numbers, tuple):
        return numbers
    lr, *scalars = numbers
    return lr, dict(zip(optimizer.scalars(1, 1.0), scalars, strict=True))


def _one(step: Step) -> Callable[..., Any]:
    """Make the function that does a step."""

    def compute(
        time: int, params: Parameters, slots: Any, mask: Any, numbers: Any, batch: dict[str, Any]
    ) -> tuple[Parameters, Any, Array]:
        return step.compute(params, slots, mask, _unpacked(numbers, step.optimizer), batch)

    return compute


def _many(step: Step) -> Callable[..., Any]:
    """Make the function that does the first `done` of many steps."""
    jax = importlib.import_module("jax")

    def compute(
        time: int,
        params: Parameters,
        slots: Any,
        mask: Any,
        done: Any,
        table: Any,
        rows: Any,
        data: Any,
    ) -> tuple[Parameters, Any, Array]:
        def body(i: Any, carry: Any) -> Any:
            params, slots, values = carry
            # Rows are checked on the host; JAX would check them again.
            batch = {
                name: None if array is None else array.at[rows[i]].get(mode="promise_in_bounds")
                for name, array in data.items()
            }
            numbers = _unpacked(table[i], step.optimizer)
            params, slots, value = step.compute(params, slots, mask, numbers, batch)
            return params, slots, values.at[i].set(value)

        values = jax.numpy.zeros(rows.shape[:1], params.flat.dtype)
        done_all: tuple[Parameters, Any, Array] = jax.lax.fori_loop(
            0, done, body, (params, slots, values)
        )
        return done_all

    return compute


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
        errors.UnexpectedTracerError,
    ) as error:
        what = str(error).partition("\n")[0].rstrip(".")
        raise TraceError(f"JAX cannot trace it ({what})") from error
