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
from anyprop.compiled.namespace import is_elementwise
from anyprop.compiled.program import listed, named, numbers_of
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.layout import Layout
from anyprop.network import ValueAndGrad
from anyprop.optimizers.base import Numbers, Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters, parted
from anyprop.repeatable.hidden_state import HiddenState
from anyprop.repeatable.jaxprs import jitted
from anyprop.repeatable.ours import is_constant
from anyprop.step import Step

LARGE = 1 << 15
"""Fewest numbers in a vector whose arrays are passed one by one, as XLA copies what it slices out."""
HUGE = 1 << 19
"""Fewest numbers in a vector for which a single step keeps XLA's own order on a CPU."""


def _shared(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes the same of equal steps, or functions; each is given first."""
    once = lru_cache(maxsize=16)(make)
    return lambda step, *others: (once if is_constant(step) else make)(step, *others)


@_shared
def _jitted(step: Step, kind: Callable[..., Any], form: _Form) -> Callable[..., Any]:
    """Return the jitted function that `kind` makes of a step."""
    lean = kind is _one and form.apart and form.layout.size() < HUGE
    return jitted(kind(step, form), step, donate=(0,), lean=lean)


class JittedStep:
    """A step on JAX arrays, traced again for each set of shapes and dtypes.

    Parameters
    ----------
    step : Step
        What to compile.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._apart = step, _takes_arrays(step)
        self._of: dict[_Form, Callable[..., Any]] = {}

    def __call__(
        self, params: Parameters, state: OptimizerState, batch: Mapping[str, Any]
    ) -> tuple[Parameters, OptimizerState, Array]:
        form = _Form.of(params, apart=self._apart)
        compute = self._of.get(form)
        if compute is None:
            compute = self._of[form] = _jitted(self._step, _one, form)
        numbers = _packed(self._step.optimizer.numbers(state), params)
        vectors, mask = form.vectors(params, state.slots), form.mask(state)
        vectors, value = compute(vectors, mask, numbers, batch)
        return *form.after(vectors, state, 1), value


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


@_shared
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
        self._step, self._most, self._apart = step, most, _takes_arrays(step)

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
        form, done = _Form.of(params, apart=self._apart), len(batches)
        numbers = numbers_of(self._step.optimizer, state, done)

        def filled(of_steps: Sequence[Any], dtype: Any) -> Any:
            # Of one shape however many batches there are, as JAX compiles anew for another.
            column = np.zeros((self._most, len(of_steps[0])), dtype)
            column[:done] = of_steps
            return column

        rows, table = filled(batches, batches[0].dtype), filled(numbers, params._any.dtype)
        compute = _jitted(self._step, _many, form)
        vectors, mask = form.vectors(params, state.slots), form.mask(state)
        vectors, values = compute(vectors, mask, done, table, rows, data)
        return *form.after(vectors, state, done), np.asarray(values)[:done].tolist()


class _Form(NamedTuple):
    """What a step takes besides its batch, and in which form: JAX flattens classes in Python.

    A step that can is given each array on its own, since a slice of a vector, and a vector that is
    joined, is a copy to XLA. Others get what `Parameters` are made of.
    """

    layout: Layout
    apart: bool

    @classmethod
    def of(cls, params: Parameters, *, apart: bool) -> _Form:
        """Return the form of a step on some parameters, `apart` if it can take them so."""
        layout = params.layout
        return cls(layout, apart and layout.size() >= LARGE and len(layout.trainable) > 1)

    def vectors(self, params: Parameters, slots: Mapping[str, Parameters]) -> tuple[Any, ...]:
        """Return what parameters and slots consist of."""
        of_slots = {name: self.numbers(slot) for name, slot in slots.items()}
        return self.numbers(params), of_slots, params.running

    def mask(self, state: OptimizerState) -> Any:
        """Return what the mask of a state consists of; None if it has none."""
        return None if state.decay_mask is None else self.numbers(state.decay_mask)

    def numbers(self, params: Parameters) -> Any:
        """Return the trainable numbers of parameters or of what is laid out as they are."""
        return params._split() if self.apart else params.flat

    def parameters(self, numbers: Any, running: Array | None = None) -> Parameters:
        """Return the parameters, or a slot, of what `numbers` returned."""
        return (parted if self.apart else Parameters)(self.layout, numbers, running)

    def after(
        self, vectors: tuple[Any, ...], state: OptimizerState, steps: int
    ) -> tuple[Parameters, OptimizerState]:
        """Return the parameters and the state that follow after some steps."""
        numbers, of_slots, running = vectors
        # In the order of the state, as JAX returns a dict in that of its keys.
        slots = {name: self.parameters(of_slots[name]) for name in state.slots}
        state = OptimizerState(state.step + steps, state.lr_scale, slots, state.decay_mask)
        return self.parameters(numbers, running), state


def _takes_arrays(step: Step) -> bool:
    """Return whether a step can be done on arrays that are not in one vector."""
    # Another gradient may read the vector as a whole, which XLA would have to concatenate.
    if not isinstance(step.gradient, ValueAndGrad):
        return False
    hidden = HiddenState(step.optimizer)
    try:
        return is_elementwise(step.optimizer)
    finally:
        hidden.put_back()


def _packed(numbers: Numbers, params: Parameters) -> Any:
    """Pack the numbers of a step into one vector of NumPy, which is one argument to pass."""
    of_step = listed(numbers)
    if any(hasattr(number, "dtype") for number in of_step):
        return numbers  # they may be on a device, and are not read here
    return np.asarray(of_step, params._any.dtype)


def _unpacked(numbers: Any, optimizer: Optimizer) -> Numbers:
    """Undo `_packed`, where it is traced."""
    return numbers if isinstance(numbers, tuple) else named(numbers, optimizer)


def _one(step: Step, form: _Form) -> Callable[..., Any]:
    """Return the function that does a step."""

    def compute(
        time: int, vectors: tuple[Any, ...], mask: Any, numbers: Any, batch: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Array]:
        ps, slots, running = vectors
        params, numbers = form.parameters(ps, running), _unpacked(numbers, step.optimizer)
        if not form.apart:
            slots = {name: form.parameters(slot) for name, slot in slots.items()}
            mask = None if mask is None else form.parameters(mask)
            params, slots, value = step.compute(params, slots, mask, numbers, batch)
            return form.vectors(params, slots), value
        value, grads, after = step.gradient(params, **batch)
        ps, slots = step.optimizer.apply(ps, form.numbers(grads), slots, mask, numbers)
        return (ps, slots, running if after is None else after), value

    return compute


def _many(step: Step, form: _Form) -> Callable[..., Any]:
    """Return the function that does the first `done` of many steps."""
    jax, one = importlib.import_module("jax"), _one(step, form)

    def compute(
        time: int,
        vectors: tuple[Any, ...],
        mask: Any,
        done: Any,
        table: Any,
        rows: Any,
        data: Mapping[str, Any],
    ) -> tuple[tuple[Any, ...], Array]:
        dtype = table.dtype

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

        before = vectors, jax.numpy.zeros(rows.shape[:1], dtype)
        after: tuple[tuple[Any, ...], Array] = jax.lax.fori_loop(0, done, body, before)
        return after

    return compute
