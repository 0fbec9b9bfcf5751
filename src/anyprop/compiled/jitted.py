"""The compiled step on JAX: gradient and update in one `jax.jit`.

Parameters and slots are donated. The learning rate and the other numbers of a step are computed on the
host and handed over as arguments, so any function can be a schedule, and the count of steps stays a
Python int.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.compiled.ours import is_of_anyprop
from anyprop.compiled.recorded_step import in_recording
from anyprop.compiled.recording import TraceError
from anyprop.compiled.traces import traced_twice
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step


class JittedStep:
    """A step on JAX arrays, traced anew for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    """

    def __init__(self, step: Step) -> None:
        self._opt = step.opt
        self._compute = _jitted(_one, step)

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
        self._opt, self._most = step.opt, most
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
            lr = self._opt.learning_rate(state)
            numbers.append((lr, self._opt.scalars(state.step + 1, lr)))
            state = state._replace(step=state.step + 1)
        jax, dtype = importlib.import_module("jax"), params.flat.dtype

        def filled(*of_steps: Any) -> Any:
            column = np.zeros((self._most, *np.shape(of_steps[0])), np.asarray(of_steps[0]).dtype)
            column[:done] = of_steps
            return column

        rows = filled(*batches)
        columns = jax.tree.map(lambda *of_steps: filled(*of_steps).astype(dtype), *numbers)
        with untraceable():
            params, slots, values = self._compute(
                params, state.slots, state.decay_mask, done, columns, rows, data
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


def is_constant(step: Step) -> bool:
    """Return whether a step, and what is equal to it, computes the same for ever.

    Parameters
    ----------
    step : Step
        Any.

    Returns
    -------
    bool
        If so, what is compiled for it serves all steps that are equal to it.
    """
    # Of two functions nobody can tell whether they are equal.
    return not isinstance(step.gradient, FunctionType) and _is_constant(step)


def _is_constant(value: object) -> bool:
    """Tell whether something, and what is equal to it, computes the same for ever."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return True
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    if type(value).__hash__ in (None, object.__hash__):
        # A schedule, which is called on the host.
        return callable(value) and not isinstance(value, (Layer, Loss, Optimizer))
    # What a class of the user's computes may follow from more than its fields.
    return (
        is_of_anyprop(type(value))
        and hasattr(value, "__dict__")
        and all(map(_is_constant, vars(value).values()))
    )


def _one(step: Step) -> Callable[..., Any]:
    """Make the function that does a step, in one of two recordings."""

    def compute(
        time: int, params: Parameters, slots: Any, mask: Any, numbers: Any, batch: dict[str, Any]
    ) -> tuple[Parameters, Any, Array]:
        value, grads = step.gradient(params, **batch)
        before = in_recording(OptimizerState(0, 1.0, slots, mask), time)
        params, after = step.opt.update_with(params, grads, before, *numbers)
        return params, after.slots, value

    return compute


def _many(step: Step) -> Callable[..., Any]:
    """Make the function that does the first `done` of many steps."""
    jax = importlib.import_module("jax")
    one = _one(step)

    def compute(
        time: int,
        params: Parameters,
        slots: Any,
        mask: Any,
        done: Any,
        numbers: Any,
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
            of_step = jax.tree.map(lambda column: column[i], numbers)
            params, slots, value = one(time, params, slots, mask, of_step, batch)
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
