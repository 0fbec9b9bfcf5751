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
from anyprop.backend import concatenated
from anyprop.compiled.namespace import is_elementwise
from anyprop.compiled.program import listed
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.layout import Layout
from anyprop.network import ValueAndGrad
from anyprop.optimizers.base import Numbers, Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, Parted
from anyprop.repeatable.jaxprs import jitted
from anyprop.repeatable.ours import is_constant
from anyprop.step import Step


class JittedStep:
    """A step on JAX arrays, traced again for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._of: dict[_Held, Callable[..., Any]] = {}

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        held = _Held.of(params, state)
        compute = self._of.get(held)
        if compute is None:
            compute = self._of[held] = _jitted(_one, self._step, held)
        numbers = _packed(self._step.optimizer.numbers(state), params)
        vectors, value = compute(held.apart(params, state.slots), state.decay_mask, numbers, batch)
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

        self._finished = jitted(finished, step, donate=(0, 1))
        self._step = replace(step, local=jitted(local, step))

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

    return jitted(once, function)


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
        compute = _jitted(_many, self._step, held)
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
        return params.flat, *[slots[name].flat for name in self.slots], *running

    def together(self, vectors: Sequence[Array]) -> tuple[Parameters, dict[str, Parameters]]:
        """Rebuild parameters and slots from vectors."""
        flat, *rest = vectors
        slots = {name: Parameters(self.layout, rest.pop(0)) for name in self.slots}
        return Parameters(self.layout, flat, *rest), slots

    def in_pieces(self, vectors: Sequence[Array]) -> tuple[Any, ...]:
        """Split each vector of `apart`, but the running statistics, into those of its arrays."""
        n = 1 + len(self.slots)
        return *map(self.pieces, vectors[:n]), *vectors[n:]

    def pieces(self, vector: Array) -> tuple[Array, ...]:
        """Split a vector into those of its arrays."""
        return tuple(vector[e.start : e.stop] for e in self.layout.entries if e.trainable)

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
    return jitted(kind(step, held), step, donate=(0,))


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


def _one_in_pieces(step: Step, held: _Held) -> Callable[..., Any]:
    """Return the function that does a step on vectors in pieces."""
    concatenate = importlib.import_module("jax").numpy.concatenate

    def compute(
        time: int, vectors: tuple[Any, ...], mask: Any, numbers: Any, batch: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Array]:
        ps, *rest = vectors
        slots = {name: rest.pop(0) for name in held.slots}
        params = Parted(held.layout, concatenate(ps), *rest)
        value, grads, running = step.gradient(params, **batch)
        gs, numbers = held.pieces(grads.flat), _unpacked(numbers, step.optimizer)
        ps, slots = step.optimizer.apply(ps, gs, slots, mask, numbers)
        return (ps, *slots.values(), *(rest if running is None else [running])), value

    return compute


def _many(step: Step, held: _Held) -> Callable[..., Any]:
    """Return the function that does the first `done` of many steps."""
    jax = importlib.import_module("jax")
    several = sum(entry.trainable for entry in held.layout.entries) > 1
    # Another gradient may read the vector as a whole, where a concatenation in XLA is slow.
    several = several and isinstance(step.gradient, ValueAndGrad)

    def compute(
        time: int,
        vectors: tuple[Array, ...],
        mask: Any,
        done: Any,
        table: Any,
        rows: Any,
        data: Mapping[str, Any],
    ) -> tuple[tuple[Array, ...], Array]:
        dtype = vectors[0].dtype
        # A slice of a vector is a copy to XLA, which goes on in each step; so here are none. The rule is
        # asked while `traced_twice` watches what it changes.
        apart = several and is_elementwise(step.optimizer)
        one = (_one_in_pieces if apart else _one)(step, held)
        if apart:
            mask = None if mask is None else held.pieces(mask.flat)

        def body(i: Any, carry: Any) -> Any:
            vectors, values = carry
            # Rows are checked on the host; JAX would check them again.
            batch = {
                name: None if array is None else array.at[rows[i]].get(mode="promise_in_bounds")
                for name, array in data.items()
            }
            batch["x"] = cast(jax.numpy, batch["x"], dtype)
            vectors, value = one(time, vectors, mask, table[i], batch)
            return vectors, values.at[i].set(value)

        before: Any = held.in_pieces(vectors) if apart else vectors
        after, values = jax.lax.fori_loop(
            0, done, body, (before, jax.numpy.zeros(rows.shape[:1], dtype))
        )
        return tuple(concatenated(v) if isinstance(v, tuple) else v for v in after), values

    return compute
