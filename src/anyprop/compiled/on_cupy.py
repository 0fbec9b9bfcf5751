"""The compiled step on CuPy: by CUDA graphs, or with the optimizer's update as one kernel.

`GraphStep` copies each batch into a graph's buffers, writes the numbers of the step into theirs, and
launches the graph. `GraphLoop` does many steps in a call, with graphs that take their batches from
the training set by themselves. `FusedUpdateStep` does each operation on its own and then the whole
rule in one kernel; it is for what cannot be captured.

The file is long because these three share what a graph is made for and when it is given up.
"""

from __future__ import annotations

import atexit
import importlib
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from anyprop._numerics import cast
from anyprop._typing import Array, Tree
from anyprop.backend import dtype_name, namespace
from anyprop.compiled import cuda_products
from anyprop.compiled.cuda_dialect import can_be_written, type_of, written
from anyprop.compiled.cuda_graph import Graph, stand_in
from anyprop.compiled.kernels import Kernel
from anyprop.compiled.program import (
    Data,
    Loop,
    Places,
    leaves_of,
    listed,
    mapped,
    numbers_of,
    owned,
    structure_of,
    taken_apart,
)
from anyprop.compiled.trace import Recording
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.network import check_batch
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState, beside
from anyprop.parameters import Parameters
from anyprop.repeatable.kept import Kept
from anyprop.repeatable.ours import is_constant
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Step

Done = tuple[Parameters, OptimizerState, Array]
Run = Callable[[Parameters, OptimizerState, Tree], Done]
AT_ONCE = 16
"""Number of steps captured in one graph where many are done in a row."""


class FusedUpdateStep:
    """A step on CuPy arrays whose update is one kernel, on parameters and state where they are.

    The kernel is made of the rule's own definition, weight decay and `clip_value` included. What depends
    on norms of the gradient is done before it.
    """

    def __init__(self, step: Step | DataParallelStep) -> None:
        self._step, self._optimizer = step, step.optimizer
        self._kernels: dict[Any, Callable[[Tree], None] | None] = {}

    def __call__(self, params: Parameters, state: OptimizerState, batch: Tree) -> Done:
        gradient: Any = self._step.gradient
        value, grads, running = (
            gradient(params, **batch) if isinstance(batch, dict) else gradient(params, batch)
        )
        p, mask = params.flat, None if state.decay_mask is None else state.decay_mask.flat
        held = p, {name: slot.flat for name, slot in state.slots.items()}, mask
        # Not the size: a kernel that goes number by number serves vectors of all lengths.
        key = (structure_of(held), *map(dtype_name, leaves_of(held)))
        if key not in self._kernels:
            self._kernels[key] = _update_kernel(self._optimizer, *held)
        update = self._kernels[key]
        if update is None:
            # A rule that cannot be one kernel is done call by call, with the same result.
            params, state = self._optimizer.update(params, grads, state, donate=True)
        else:
            numbers = self._optimizer.numbers(state)
            numbers = mapped(lambda number: beside(p, number, "lr"), numbers)
            update((*held, self._optimizer.clip_norms(grads).flat, numbers))
            state = state._replace(step=state.step + 1)
        return params.replace(running=running), state, value


def _update_kernel(
    optimizer: Optimizer, p: Array, slots: dict[str, Array], mask: Array | None
) -> Callable[[Tree], None] | None:
    """Write the rule as one kernel, recorded on placeholder vectors.

    It takes parameters, slots, mask, gradient and numbers; None if the rule cannot be a kernel.
    """
    # Of the scalars only the names matter: each step hands its own numbers to the kernel.
    numbers = mapped(lambda _: np.ones((), dtype_name(p)), (1.0, optimizer.scalars(1, 1.0)))
    vectors = mapped(lambda vector: np.ones(2, dtype_name(vector)), (p, slots, mask, p))
    given = p, slots, mask, g, numbers = mapped(Recording.given, (*vectors, numbers))
    # Norms need all numbers before the first is changed; they are clipped to before the kernel.
    elementwise = replace(optimizer, clip_norm=None, clip_global_norm=None)
    try:
        with np.errstate(all="ignore"), Recording() as recording:
            results = leaves_of(elementwise.apply(p, g, slots, mask, numbers))
    except TraceError:
        return None
    kernel = Kernel(recording.calls, [result.value for result in results])
    values = [traced.value for traced in leaves_of(given)]
    # A rule may read an array of its own, whose numbers belong to other parameters in each vector.
    if not all(map(can_be_written, recording.calls)) or not {*values} >= {*kernel.inputs}:
        return None
    launch = written(kernel, "anyprop_update").launch()

    def update(arrays: Tree) -> None:
        place = dict(zip(values, leaves_of(arrays), strict=True))
        launch(*(place[value] for value in kernel.inputs), *leaves_of(arrays[:2]))

    return update


def graph_step(step: Step) -> Run:
    """Return a `GraphStep`; a `FusedUpdateStep`, with a warning, where cuBLASLt is missing."""
    if not cuda_products.is_available():
        _warn('it needs cuBLASLt, which pip installs with CuPy\'s extra "ctk"')
        return FusedUpdateStep(step)
    return GraphStep(step)


class GraphStep:
    """A step on CuPy arrays, captured again for each set of shapes and dtypes."""

    def __init__(self, step: Step) -> None:
        self._step, self._uncaptured = step, FusedUpdateStep(step)
        # Two threads may be in the same step; a graph has one set of buffers.
        self._of_thread = threading.local()

    def __call__(self, params: Parameters, state: OptimizerState, batch: Tree) -> Done:
        runs: dict[Any, Run] = self._of_thread.__dict__
        leaves, kinds = taken_apart(batch)
        key = (params.layout, params.flat.dtype, *kinds, *map(_gpu, leaves))
        if key in runs:
            return runs[key](params, state, batch)
        try:
            namespace(params.flat, *leaves)
            check_batch(params, batch["x"], batch["t"])
        except (TypeError, ValueError):  # the eager step says it in its own words
            return self._uncaptured(params, state, batch)
        before = params.copy(), state.copy()
        try:
            graph = _OneStep(self._step, params, state, batch)
            done = graph(params, state, batch)
            # Only the first step of a graph: to do each twice would cost more than a graph gains.
            reason = graph.difference(*before, batch)
        except refusals() as error:
            reason = _reason_of(error)
        if not reason:
            runs[key] = graph
            return done
        # From the copies, as the graph has written over what was given. It raises what is wrong with a
        # batch, if that was the reason.
        done = self._uncaptured(*before, batch)
        runs[key] = self._uncaptured
        _warn(reason.rstrip("."))
        return done


def _warn(reason: str) -> None:
    """Warn whoever called a compiled step, from a function that `compile` calls for it."""
    text = f"the step runs without a CUDA graph: {reason}."
    warnings.warn(text, RuntimeWarning, stacklevel=5)


def refusals() -> tuple[type[Exception], ...]:
    """List the errors of a step that cannot be captured; all others are mistakes, and propagate."""
    compiler = importlib.import_module("cupy").cuda.compiler
    return TraceError, RuntimeError, MemoryError, compiler.CompileException


def _reason_of(error: Exception) -> str:
    return str(error) if isinstance(error, TraceError) else f"{type(error).__name__}: {error}"


def _gpu(array: Array) -> Any:
    return getattr(array.data, "device_id", None)


class _OneStep(Graph):
    """The graph of a step that is given its batch and its numbers."""

    def __init__(self, step: Step, params: Parameters, state: OptimizerState, batch: Tree) -> None:
        empty = importlib.import_module("cupy").empty
        places = mapped(lambda leaf: empty(leaf.shape, leaf.dtype), batch)
        super().__init__(step, params, state, places)
        self._batch = leaves_of(places)
        fill = Kernel([], [stand_in(number).value for number in self._each_number])
        self._write_numbers = written(fill, "anyprop_numbers").launch()
        self.capture()

    def __call__(self, params: Parameters, state: OptimizerState, batch: Tree) -> Done:
        self.places.fill(params, state)
        for place, leaf in zip(self._batch, leaves_of(batch), strict=True):
            place[...] = leaf
        numbers = listed(self._step.optimizer.numbers(state))
        given = [beside(params.flat, number, "lr") for number in numbers]
        self._write_numbers(*given, *self._each_number)
        self._graph.launch()
        return self.places.params, self.places.after(state), self.value.copy()


# A graph holds its parameters, its state and all buffers of its step: some, but not all, are kept.
kept = Kept(8, 256 * 2**20)
# CuPy can free what they hold as long as it exists itself.
atexit.register(kept.objects.clear)


class GraphLoop(Loop):
    """Many steps on CuPy arrays in one call, `most` at most."""

    def __init__(self, step: Step, most: int) -> None:
        self._step, self._most, self._keeps = step, most, is_constant(step)
        self._of_thread = threading.local()

    def __call__(
        self, params: Parameters, state: OptimizerState, data: Data, batches: Sequence[Any]
    ) -> Done:
        numbers = numbers_of(self._step.optimizer, state, len(batches))
        if any(hasattr(number, "dtype") for number in numbers[0]):
            raise TraceError("its learning rate is in an array, which may change between steps")
        try:
            graph = self._graph(params, state, numbers[:1], data, batches[:1])
            # Before the first step: where a capture is refused, nothing has changed yet.
            graph.make_ready(len(batches))
        except refusals() as error:
            raise TraceError(_reason_of(error)) from error
        graph.run(params, state, numbers, data, batches)
        return graph.result(params, state, len(batches))

    def _graph(
        self,
        params: Parameters,
        state: OptimizerState,
        numbers: Sequence[list[float]],
        data: Data,
        batches: Sequence[Any],
    ) -> _GatheringGraph:
        """Return the graph for the arguments; if there is none, make it and compare its first step."""
        graphs: dict[Any, _GatheringGraph] = self._of_thread.__dict__
        (rows,) = batches
        vectors = (params.flat, *leaves_of(data))
        kinds = [(a.dtype, a.shape[1:], a.strides, _gpu(a)) for a in vectors]
        key = (params.layout, state.decay_mask is None, len(rows), structure_of(data), *kinds)
        graph = graphs.get(key)
        if graph is not None:
            return graph
        # For a step that cannot change, an equal one of an earlier run has left a graph.
        key_of_all = (self._step, self._most, *key) if self._keeps else None
        graph = kept.get(key_of_all)
        if graph is None:
            # It gets copies, as the arguments should be unchanged if it is not used.
            given = params.copy(), state.copy(), numbers, data, batches
            graph = _GatheringGraph(self._step, *given, self._most)
            graph.run(params, state, numbers, data, batches)
            xp, there = namespace(params.flat), importlib.import_module("cupy").asarray(rows)
            batch = mapped(lambda array: xp.take(array, there, axis=0), dict(data))
            batch["x"] = cast(xp, batch["x"], params.flat.dtype)
            far = graph.difference(params, state, batch)
            if far:
                text = f"the steps are done one by one, since {far}."
                warnings.warn(text, RuntimeWarning, stacklevel=3)
                raise TraceError(far)
            if key_of_all is not None:
                kept.put(key_of_all, graph)
        graphs[key] = graph
        return graph


class _GatheringGraph(Graph):
    """The graph of one size of batches, and where it finds their rows.

    The addresses of the data and the rows of all batches, and before them the count of steps that are
    done, are copied to the device once in a call; so is a table of the numbers that depend on the step,
    such as the learning rate. The graph reads its own batch's rows and its numbers there, gathers the
    batch, does the step, stores the loss at the place of the step, and counts. So a step costs the host
    nothing, and several of them, one after another, are one launch.
    """

    def __init__(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        numbers: Sequence[list[float]],
        data: Data,
        batches: Sequence[Any],
        most: int,
    ) -> None:
        cupy = importlib.import_module("cupy")
        n, dtype = len(batches[0]), params.flat.dtype
        batch = {
            # The gather casts x.
            name: cupy.empty((n, *array.shape[1:]), dtype if name == "x" else array.dtype)
            for name, array in data.items()
            if array is not None
        }
        super().__init__(step, params, state, step.batch(**batch))
        places = [*batch.values()]
        self._rows = cupy.empty(1 + len(places) + most * n, "int64")
        self._values = cupy.empty(most, dtype)
        self._table = cupy.empty(most * self.numbers.size, dtype)
        self._own = [self._rows, self._values, self._table, *places]
        self._several: Any = None
        self._set_steps(numbers, data, batches)  # the capture does a step, too
        gather, size = _gather_kernel(leaves_of(data), places, self.numbers)
        # One thread; the count increases when nothing in this step reads it any more.
        store = cupy.ElementwiseKernel(
            f"{dtype} value",
            f"raw {dtype} values, raw int64 rows",
            "values[rows[0]] = value; rows[0] += 1;",
            "anyprop_store",
        )
        # Of one stream, so that each finds what the one before it left.
        self.capture(
            [partial(gather, self._rows, self._table, *places, self.numbers, size=size)],
            [partial(store, self.value, self._values, self._rows)],
        )

    @property
    def nbytes(self) -> int:
        """Memory that it holds, in bytes."""
        held = (*self._own, *leaves_of(tuple(self.places)))
        return int(sum(array.nbytes for array in held) + self._memory.total_bytes())

    def make_ready(self, steps: int) -> None:
        """Capture several steps in one graph, if so many will be launched."""
        if steps >= AT_ONCE and self._several is None:
            self._several = self.captured(AT_ONCE)

    def run(
        self,
        params: Parameters,
        state: OptimizerState,
        numbers: Sequence[list[float]],
        data: Data,
        batches: Sequence[Any],
    ) -> None:
        """Run the steps, and leave their results in the graph."""
        self._set_steps(numbers, data, batches)
        self.places.fill(params, state)
        several, single = divmod(len(batches), AT_ONCE)
        for _ in range(several):
            self._several.launch()
        for _ in range(single):
            self._graph.launch()

    def _set_steps(
        self, numbers: Sequence[list[float]], data: Data, batches: Sequence[Any]
    ) -> None:
        """Copy what the steps depend on to where the graph reads it, beginning with the first step."""
        # As numbers on the device: a later call may have its data elsewhere, and the graph stays.
        addresses = [array.data.ptr for array in leaves_of(data)]
        rows = np.concatenate([np.asarray([0, *addresses], dtype="int64"), *batches])
        # All numbers of all steps at once, as the host does nothing between the launches.
        table = np.ravel(np.asarray(numbers, dtype_name(self._table)))
        # CuPy copies from pinned memory, which it keeps until it has.
        put = importlib.import_module("cupy").asarray
        self._rows[: len(rows)] = put(rows)
        self._table[: len(table)] = put(table)

    def result(self, params: Parameters, state: OptimizerState, steps: int) -> Done:
        """Return what follows from `params` and `state`, in their memory, and the losses."""
        # The graph goes on writing into its own buffers, whose numbers the caller must not see change.
        theirs = Places(owned(params), {k: owned(v) for k, v in state.slots.items()}, None)
        theirs.fill(self.places.params, state._replace(slots=self.places.slots, decay_mask=None))
        state = state._replace(step=state.step + steps, slots=theirs.slots)
        return theirs.params, state, self._values[:steps].copy()


def _gather_kernel(data: list[Array], places: list[Array], numbers: Array) -> tuple[Any, int]:
    """Return the kernel that takes the rows of the present batch and its numbers; and its size.

    It reads the addresses of the data after the count of steps, before the rows.
    """
    # A thread for each number of the batch, and one for each number of the step.
    n, widths = places[0].shape[0], [math.prod(array.shape[1:]) for array in data]
    width, count = sum(widths), numbers.size
    first_row = 1 + len(data)
    lines = [
        f"if (i < {n * width}) {{",
        f"const long long row = i / {width};",
        f"const long long source = rows[{first_row} + rows[0] * {n} + row];",
        f"long long column = i % {width};",
    ]
    # The columns of x, t and the weights are counted one after the other.
    for k, (array, own) in enumerate(zip(data, widths, strict=True)):
        address, kind = f"rows[{1 + k}] + {_offset(array)}", type_of(array)
        store = f"y{k}[row * {own} + column] = *(const {kind}*)({address});"
        lines += [f"if (column >= 0 && column < {own}) {store}", f"column -= {own};"]
    lines += [
        "} else {",
        f"const long long k = i - {n * width};",
        f"numbers[k] = table[rows[0] * {count} + k];",
        "}",
    ]
    outs = [f"raw {place.dtype} y{k}" for k, place in enumerate(places)]
    kernel = importlib.import_module("cupy").ElementwiseKernel(
        f"raw int64 rows, raw {numbers.dtype} table",
        ", ".join([*outs, f"raw {numbers.dtype} numbers"]),
        "\n".join(lines),
        "anyprop_gather",
    )
    return kernel, n * width + count


def _offset(array: Array) -> str:
    """Write the offset in bytes of a number of an array from its first."""
    terms, left = [f"source * {array.strides[0]}"], math.prod(array.shape[1:])
    for length, stride in zip(array.shape[1:], array.strides[1:], strict=True):
        left //= length
        terms.append(f"column / {left} % {length} * {stride}")
    return " + ".join(terms)
