"""The compiled step on JAX: gradient and update in one `jax.jit`.

Parameters and slots are donated. The learning rate and the other numbers of a step are computed on the
host and passed in one vector, so any function can be a schedule, and the count of steps stays a
Python int. On several ranks the gradient of this rank's rows and the update are jitted, with the
all-reduce between them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from anyprop._numerics import cast
from anyprop._typing import Array
from anyprop.compiled.program import listed
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.layout import Layout
from anyprop.optimizers.base import Numbers, Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.repeatable.jaxprs import traced_twice
from anyprop.repeatable.ours import is_constant
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step


class JittedStep:
    """A step on JAX arrays, traced again for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._errors = step, _errors()
        self._of: dict[_Held, Callable[..., Any]] = {}

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        held = _Held.of(params, state)
        compute = self._of.get(held)
        if compute is None:
            compute = self._of[held] = _jitted(_one, self._step, held)
        numbers = _packed(self._step.optimizer.numbers(state), params)
        try:
            vectors, value = compute(
                held.apart(params, state.slots), state.decay_mask, numbers, batch
            )
        except self._errors as error:
            raise _refused(error) from error
        return *held.rebuilt(vectors, state, 1), value


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

        def finished(time: int, params: Any, slots: Any, mask: Any, numbers: Any, sums: Any) -> Any:
            return step.finished(params, slots, mask, _unpacked(numbers, step.optimizer), *sums)

        jit = importlib.import_module("jax").jit
        self._finished = _refusing(jit(traced_twice(finished, step), donate_argnums=(0, 1)))
        self._step = replace(step, local=_refusing(jit(traced_twice(local, step))))

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Sequence[Mapping[str, Any]]
    ) -> tuple[Parameters, OptimizerState, Array]:
        message, running = self._step.summed(params, batch)
        numbers = _packed(self._step.optimizer.numbers(state), params)
        sums = (self._step.all_reduce(message), running)
        params, slots, value = self._finished(params, state.slots, state.decay_mask, numbers, sums)
        return params, state._replace(step=state.step + 1, slots=slots), value


def jitted_gradient(function: Callable[[Parameters, Any], Any]) -> Callable[[Parameters, Any], Any]:
    """Compile a function of parameters and a batch on JAX arrays."""

    def once(time: int, params: Parameters, batch: Any) -> Any:
        return function(params, batch)

    return _refusing(importlib.import_module("jax").jit(traced_twice(once, function)))


class JittedLoop:
    """Many steps on JAX arrays in one call, without the cost of starting each.

    The same compiled loop does any number of them, so how a run is divided into calls changes nothing.

    Parameters
    ----------
    step : Step
        What to compile.
    most : int >= 1
        Largest number of steps in a call.
    """

    def __init__(self, step: Step, most: int) -> None:
        self._step, self._most = step, most

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        data: Mapping[str, Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, list[float]]:
        """Run a step with each batch.

        Parameters
        ----------
        params, state
            Donated.
        data : mapping
            What a step takes by name, with the rows of all batches; those of x are cast.
        batches : sequence of numpy.ndarray, shape (N,), int
            The rows of each batch.

        Returns
        -------
        params, state, values
            The loss of each batch in place of the value of one.
        """
        held, done = _Held.of(params, state), len(batches)
        numbers = [
            listed(self._step.optimizer.numbers(state._replace(step=state.step + k)))
            for k in range(done)
        ]

        def filled(of_steps: Sequence[Any], dtype: Any) -> Any:
            # Of one shape however many batches there are, as JAX compiles anew for another.
            column = np.zeros((self._most, len(of_steps[0])), dtype)
            column[:done] = of_steps
            return column

        rows, table = filled(batches, batches[0].dtype), filled(numbers, params.flat.dtype)
        compute = _refusing(_jitted(_many, self._step, held))
        vectors, values = compute(
            held.apart(params, state.slots), state.decay_mask, done, table, rows, data
        )
        return *held.rebuilt(vectors, state, done), np.asarray(values)[:done].tolist()


class _Held(NamedTuple):
    """What a step takes besides its batch, as a tuple of vectors: JAX flattens classes in Python."""

    layout: Layout
    has_running: bool
    slots: tuple[str, ...]

    @classmethod
    def of(cls, params: Parameters, state: OptimizerState) -> _Held:
        return cls(params.layout, params.running is not None, tuple(state.slots))

    def apart(self, params: Parameters, slots: Mapping[str, Parameters]) -> tuple[Array, ...]:
        """Split parameters and slots into vectors."""
        running = (params.running,) if self.has_running else ()
        return params.flat, *running, *[slots[name].flat for name in self.slots]

    def together(self, vectors: Sequence[Array]) -> tuple[Parameters, dict[str, Parameters]]:
        """Rebuild parameters and slots from vectors."""
        first = 2 if self.has_running else 1
        slots = zip(self.slots, vectors[first:], strict=True)
        return (
            Parameters(self.layout, vectors[0], vectors[1] if self.has_running else None),
            {name: Parameters(self.layout, vector) for name, vector in slots},
        )

    def rebuilt(
        self, vectors: Sequence[Array], state: OptimizerState, steps: int
    ) -> tuple[Parameters, OptimizerState]:
        """Return the parameters and the state that follow after some steps."""
        params, slots = self.together(vectors)
        return params, OptimizerState(state.step + steps, state.lr_scale, slots, state.decay_mask)


Kind = Callable[[Step, _Held], Callable[..., Any]]


def _jitted(kind: Kind, step: Step, held: _Held) -> Callable[..., Any]:
    """Return the jitted function that `kind` makes of a step; an equal step gets the same one."""
    return (_jit_once if is_constant(step) else _jit)(kind, step, held)


def _jit(kind: Kind, step: Step, held: _Held) -> Callable[..., Any]:
    jitted: Callable[..., Any] = importlib.import_module("jax").jit(
        traced_twice(kind(step, held), step), donate_argnums=0
    )
    return jitted


_jit_once = lru_cache(maxsize=16)(_jit)


def _packed(numbers: Numbers, params: Parameters) -> Any:
    """Pack the numbers of a step into one vector of NumPy, which is one argument to pass."""
    of_step = listed(numbers)
    if any(hasattr(number, "dtype") for number in of_step):
        return numbers  # they may be on a device, and are not read here
    return np.asarray(of_step, params.flat.dtype)


def _unpacked(numbers: Any, optimizer: Optimizer) -> Numbers:
    """Undo `_packed`, where it is traced."""
    if isinstance(numbers, tuple):
        return numbers
    lr, *scalars = numbers
    return lr, dict(zip(optimizer.scalars(1, 1.0), scalars, strict=True))


def _one(step: Step, held: _Held) -> Callable[..., Any]:
    """Return the function that does a step."""

    def compute(
        time: int, vectors: tuple[Array, ...], mask: Any, numbers: Any, batch: Mapping[str, Any]
    ) -> tuple[tuple[Array, ...], Array]:
        params, slots, value = step.compute(
            *held.together(vectors), mask, _unpacked(numbers, step.optimizer), batch
        )
        return held.apart(params, slots), value

    return compute


def _many(step: Step, held: _Held) -> Callable[..., Any]:
    """Return the function that does the first `done` of many steps."""
    jax = importlib.import_module("jax")
    one = _one(step, held)

    def compute(
        time: int,
        vectors: tuple[Array, ...],
        mask: Any,
        done: Any,
        table: Any,
        rows: Any,
        data: Mapping[str, Any],
    ) -> tuple[tuple[Array, ...], Array]:
        def body(i: Any, carry: Any) -> Any:
            vectors, values = carry
            # Rows are checked on the host; JAX would check them again.
            batch = {
                name: None if array is None else array.at[rows[i]].get(mode="promise_in_bounds")
                for name, array in data.items()
            }
            batch["x"] = cast(jax.numpy, batch["x"], vectors[0].dtype)
            vectors, value = one(time, vectors, mask, table[i], batch)
            return vectors, values.at[i].set(value)

        before = vectors, jax.numpy.zeros(rows.shape[:1], vectors[0].dtype)
        done_all: tuple[tuple[Array, ...], Array] = jax.lax.fori_loop(0, done, body, before)
        return done_all

    return compute


def _refusing(jitted: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors of tracing where it needs the numbers of an array into `TraceError`."""
    errors = _errors()

    def call(*args: Any, **options: Any) -> Any:
        try:
            return jitted(*args, **options)
        except errors as error:
            raise _refused(error) from error

    return call


def _errors() -> tuple[type[Exception], ...]:
    errors = importlib.import_module("jax").errors
    return (
        errors.ConcretizationTypeError,
        errors.NonConcreteBooleanIndexError,
        errors.TracerArrayConversionError,
        errors.TracerIntegerConversionError,
        errors.UnexpectedTracerError,
    )


def _refused(error: Exception) -> TraceError:
    what = str(error).partition("\n")[0].rstrip(".")
    return TraceError(f"JAX cannot trace it ({what})")
