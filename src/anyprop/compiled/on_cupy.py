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
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from anyprop import _tree
from anyprop._numerics import cast
from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace
from anyprop.compiled import cuda_products
from anyprop.compiled.cuda_dialect import can_be_written, type_of, written
from anyprop.compiled.cuda_graph import Graph
from anyprop.compiled.kernels import Kernel
from anyprop.compiled.program import listed
from anyprop.compiled.trace import Recording
from anyprop.distributed.data_parallel import DataParallelStep
from anyprop.network import check_batch
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState, beside
from anyprop.parameters import Parameters
from anyprop.repeatable.ours import is_constant
from anyprop.repeatable.stand_in import TraceError
from anyprop.step import Gradient, Step

Run = Callable[..., tuple[Parameters, OptimizerState, Array]]
# A graph holds its parameters, its state and all buffers of its step: some, but not all, are kept.
MOST_KEPT, MOST_BYTES_KEPT = 8, 256 * 2**20


class FusedUpdateStep:
    """A step on CuPy arrays whose update is one kernel, on parameters and state where they are.

    The kernel is made of the rule's own definition, weight decay and `clip_value` included. What depends
    on norms of the gradient is done before it.
    """

    def __init__(self, step: Step | DataParallelStep) -> None:
        self._gradient: Gradient = step.gradient
        self._optimizer = step.optimizer
        self._kernels: dict[Any, tuple[list[str], list[str], Callable[..., Any]] | None] = {}

    def __call__(
        self, params: Parameters, state: OptimizerState, *batch: Any, **options: Any
    ) -> tuple[Parameters, OptimizerState, Array]:
        value, grads, running = self._gradient(params, *batch, **options)
        dtype, mask = dtype_name(params.flat), state.decay_mask
        dtypes = {f"slot {name}": dtype_name(slot.flat) for name, slot in state.slots.items()}
        # Not the size: a kernel that goes number by number serves vectors of all lengths.
        key = (dtype, *dtypes.items(), mask is None)
        if key not in self._kernels:
            self._kernels[key] = _update_kernel(
                self._optimizer, dtype, dtypes, masked=mask is not None
            )
        kernel = self._kernels[key]
        if kernel is None:
            # A rule that cannot be one kernel is done call by call, with the same result.
            params, state = self._optimizer.update(params, grads, state, donate=True)
            return params.replace(running=running), state, value
        lr, scalars = self._optimizer.numbers(state)
        numbers = {"lr": lr} | {f"scalar {name}": number for name, number in scalars.items()}
        arrays = {name: beside(params.flat, number, name) for name, number in numbers.items()}
        arrays |= {"p": params.flat, "g": self._optimizer.clip_norms(grads).flat}
        arrays |= {f"slot {name}": slot.flat for name, slot in state.slots.items()}
        arrays |= {} if mask is None else {"mask": mask.flat}
        inputs, outputs, launch = kernel
        launch(*(arrays[name] for name in (*inputs, *outputs)))
        return params.replace(running=running), state._replace(step=state.step + 1), value


def _update_kernel(
    optimizer: Optimizer, dtype: str, slot_dtypes: dict[str, str], *, masked: bool
) -> tuple[list[str], list[str], Callable[..., Any]] | None:
    """Write the rule as one kernel, recorded on placeholder vectors.

    It returns the names of what the kernel reads and of what it writes, and what launches it; None
    if the rule cannot be expressed as a kernel.
    """
    vectors = {"p": dtype, "g": dtype, **slot_dtypes} | ({"mask": dtype} if masked else {})
    # For their names alone: each step hands its own numbers to the kernel.
    scalars = optimizer.scalars(1, 1.0)
    given = {name: Recording.given(np.ones(2, of)) for name, of in vectors.items()}
    given |= {
        name: Recording.given(np.ones((), dtype))
        for name in ("lr", *(f"scalar {name}" for name in scalars))
    }
    slots = {name.removeprefix("slot "): given[name] for name in slot_dtypes}
    # Norms need all numbers before the first is changed; they are clipped to before the kernel.
    elementwise = replace(optimizer, clip_norm=None, clip_global_norm=None)
    try:
        with np.errstate(all="ignore"), Recording() as recording:
            numbers = given["lr"], {name: given[f"scalar {name}"] for name in scalars}
            p, after = elementwise.apply(given["p"], given["g"], slots, given.get("mask"), numbers)
    except TraceError:
        return None
    results = {"p": p} | {f"slot {name}": slot for name, slot in after.items()}
    kernel = Kernel(recording.calls, [x.value for x in results.values()])
    names = {traced.value: name for name, traced in given.items()}
    # A rule may read an array of its own, whose numbers belong to other parameters in each vector.
    if not all(map(can_be_written, recording.calls)) or not names.keys() >= {*kernel.inputs}:
        return None
    launch = written(kernel, "anyprop_update").launch()
    return [names[value] for value in kernel.inputs], [*results], launch


def graph_step(step: Step) -> Run:
    """Return a `GraphStep`; a `FusedUpdateStep`, with a warning, where cuBLASLt is missing."""
    if not cuda_products.is_available():
        _warn('it needs cuBLASLt, which pip installs with CuPy\'s extra "ctk"', stacklevel=5)
        return FusedUpdateStep(step)
    return GraphStep(step)


class GraphStep:
    """A step on CuPy arrays, captured again for each set of shapes and dtypes."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._uncaptured = FusedUpdateStep(step)
        # Two threads may be in the same step; a graph has one set of buffers.
        self._of_thread = threading.local()

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
        graphs: dict[Any, Graph | None] = self._of_thread.__dict__
        batch = [x, t, sample_weight, *_tree.leaves(noise)]
        key = (params.layout, params.flat.dtype, *map(_kind, batch))
        reason, before = "", None
        if key not in graphs:
            try:
                _check_together(params, batch)
            except (TypeError, ValueError):  # the eager step says it in its own words
                return self._uncaptured(
                    params, state, x, t, noise=noise, sample_weight=sample_weight
                )
            try:
                # With these the first step is compared, and done again if the graph is wrong.
                before = params.copy(), state.copy()
                graphs[key] = Graph(self._step, params, state, _places_of(batch), noise)
            except refusals() as error:
                reason = _reason_of(error)
        graph = graphs.get(key)
        if graph is not None:
            graph.fill(params, state)
            for place, leaf in zip(graph.batch, batch, strict=True):
                if place is not None:
                    place[...] = leaf
            done = graph.params, graph.launch(state), graph.value.copy()
            # Only the first step of a graph: to do each twice would cost more than a graph gains.
            reason = "" if before is None else graph.difference(self._step, *before, batch, noise)
            if before is None or not reason:
                return done
            # The graph has written over what was given, so the step is done again from the copies.
            params, state = before
        # This raises what is wrong with a batch, if that was the reason.
        done = self._uncaptured(params, state, x, t, noise=noise, sample_weight=sample_weight)
        if reason:
            graphs[key] = None
            _warn(reason.rstrip("."), stacklevel=5)
        return done


def _warn(reason: str, stacklevel: int) -> None:
    text = f"the step runs without a CUDA graph: {reason}."
    warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)


def refusals() -> tuple[type[Exception], ...]:
    """List the errors of a step that cannot be captured; all others are mistakes, and propagate."""
    compiler = importlib.import_module("cupy").cuda.compiler
    return TraceError, RuntimeError, MemoryError, compiler.CompileException


def _reason_of(error: Exception) -> str:
    return str(error) if isinstance(error, TraceError) else f"{type(error).__name__}: {error}"


def _kind(leaf: Array | None) -> Any:
    """Return the properties of an array that a graph depends on."""
    if leaf is None:
        return None
    return type(leaf), leaf.shape, leaf.dtype, getattr(leaf.data, "device_id", None)


def _check_together(params: Parameters, batch: list[Array | None]) -> None:
    """Raise unless parameters and batch fit together: x, t, and arrays or None."""
    for leaf in batch:
        if leaf is not None:
            namespace(params.flat, leaf)
    check_batch(params, batch[0], batch[1])


def _places_of(batch: list[Array | None], rows: int | None = None) -> list[Array | None]:
    """Return arrays like those of a batch, with `rows` rows."""

    def place(leaf: Array) -> Array:
        shape = leaf.shape if rows is None else (rows, *leaf.shape[1:])
        return namespace(leaf).empty(shape, dtype=leaf.dtype)

    return [None if leaf is None else place(leaf) for leaf in batch]


class _Kept(threading.local):
    """The graphs of a thread that later loops may use, the last used at the end."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Any, _GatheringGraph] = OrderedDict()

    def get(self, key: Any) -> _GatheringGraph | None:
        """Return the graph of a key, if there is one."""
        return self._graphs.get(key)

    def put(self, key: Any, graph: _GatheringGraph) -> None:
        """Keep a graph, and as many of the others as fit."""
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        while (
            len(self._graphs) > MOST_KEPT
            or sum(kept.nbytes for kept in self._graphs.values()) > MOST_BYTES_KEPT
        ):
            # Also the one just put, if it alone is too large; the loop that made it has it still.
            self._graphs.popitem(last=False)

    def clear(self) -> None:
        """Keep none."""
        self._graphs.clear()


kept = _Kept()
# CuPy can free what they hold as long as it exists itself.
atexit.register(kept.clear)


class GraphLoop:
    """Many steps on CuPy arrays in one call, `most` at most."""

    def __init__(self, step: Step, most: int) -> None:
        self._step, self._most, self._keeps = step, most, is_constant(step)
        self._of_thread = threading.local()

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        data: Mapping[str, Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Run a step with each batch.

        Parameters
        ----------
        params, state
            As a step takes them; donated. If the steps cannot be captured, which raises TraceError, they
            are as they were.
        data : mapping
            x, t and sample_weight, with the rows of all batches. x may be of a dtype that the
            parameters' holds exactly; each batch is cast.
        batches : sequence of numpy.ndarray, shape (N,), int64
            The rows of each batch, all of one size and within the data.

        Returns
        -------
        params, state
            As a step returns them, in the memory of those that were given.
        values : array, shape (K,)
            The loss of each of the K batches, for the caller to keep.
        """
        if hasattr(self._step.optimizer.learning_rate(state), "dtype"):
            raise TraceError("its learning rate is in an array, which may change between steps")
        arrays = [data[name] for name in ("x", "t", "sample_weight")]
        try:
            graph = self._graph(params, state, arrays, batches[0])
            # Before the first step: where a capture is refused, nothing has changed yet.
            graph.make_ready(len(batches))
        except refusals() as error:
            raise TraceError(_reason_of(error)) from error
        return graph.run(params, state, arrays, batches)

    def _graph(
        self, params: Parameters, state: OptimizerState, arrays: list[Array | None], rows: Any
    ) -> _GatheringGraph:
        """Return the graph for the arguments; if there is none, make it and compare its first step."""
        graphs: dict[Any, _GatheringGraph] = self._of_thread.__dict__
        kinds = [_kind_of_rows(array) for array in (params.flat, *arrays)]
        key = (params.layout, state.decay_mask is None, len(rows), *kinds)
        graph = graphs.get(key)
        if graph is not None:
            return graph
        # For a step that cannot change, an equal one of an earlier run has left a graph.
        key_of_all = (self._step, self._most, *key) if self._keeps else None
        graph = kept.get(key_of_all)
        if graph is None:
            # It gets copies, as the arguments should be unchanged if it is not used.
            graph = _GatheringGraph(
                *(self._step, params.copy(), state.copy(), arrays, rows, self._most)
            )
            far = graph.difference(self._step, params, state, arrays, rows)
            if far:
                text = f"the steps are done one by one, since {far}."
                warnings.warn(text, RuntimeWarning, stacklevel=3)
                raise TraceError(far)
        graphs[key] = graph
        if key_of_all is not None:
            kept.put(key_of_all, graph)
        return graph


def _kind_of_rows(array: Array | None) -> Any:
    """Return the properties on which a graph depends of an array that it takes rows of."""
    if array is None:
        return None
    of_type, shape, *place = _kind(array)
    return of_type, shape[1:], array.strides, *place


class _GatheringGraph:
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
        data: list[Array | None],
        rows: Any,
        most: int,
    ) -> None:
        xp, n = namespace(params.flat), len(rows)
        given = [array for array in data if array is not None]
        self._rows = xp.empty(1 + len(given) + most * n, dtype="int64")
        self._values = xp.empty(most, dtype=params.flat.dtype)
        self._optimizer, self._count = step.optimizer, 1 + len(step.optimizer.scalars(1, 1.0))
        self._table = xp.empty(most * self._count, dtype=params.flat.dtype)
        places = _places_of(data, n)
        assert places[0] is not None
        places[0] = xp.empty(places[0].shape, dtype=params.flat.dtype)  # the gather casts x
        _check_together(params, places)
        self._set_steps(state, data, [rows])  # the capture does a step, too
        around = partial(self._around, given, [place for place in places if place is not None])
        self._graph = Graph(step, params, state, [*places, None], None, around)
        self.make_ready = self._graph.make_ready
        own = [self._rows, self._values, self._table, *(p for p in places if p is not None)]
        self.nbytes = self._graph.nbytes + sum(array.nbytes for array in own)

    def _around(
        self,
        data: list[Array],
        places: list[Array],
        launches: Callable[[], None],
        value: Array,
        numbers: Array,
    ) -> Callable[[], None]:
        """Launch what takes the batch before a step, and what keeps its loss after it."""
        # One thread; the count increases when nothing in this step reads it any more.
        kernel = importlib.import_module("cupy").ElementwiseKernel(
            f"{value.dtype} value",
            f"raw {value.dtype} values, raw int64 rows",
            "values[rows[0]] = value; rows[0] += 1;",
            "anyprop_store",
        )
        store = partial(kernel, value, self._values, self._rows)
        kernel, size = _gather_kernel(data, places, numbers)
        gather = partial(kernel, self._rows, self._table, *places, numbers, size=size)
        # Captured in this order, of one stream, so that each finds what the one before it left.
        in_order: list[Callable[[], Any]] = [gather, launches, store]

        def work() -> None:
            for launch in in_order:
                launch()

        return work

    def _set_steps(
        self, state: OptimizerState, data: list[Array | None], batches: Sequence[Any]
    ) -> None:
        """Copy what the steps depend on to where the graph reads it, beginning with the first step."""
        # All numbers of all steps at once, as the host does nothing between the launches.
        table = []
        for k in range(len(batches)):
            table += listed(self._optimizer.numbers(state._replace(step=state.step + k)))
        # CuPy copies from pinned memory, which it keeps until it has.
        put = importlib.import_module("cupy").asarray
        # As numbers on the device: a later call may have its data elsewhere, and the graph stays.
        addresses = [array.data.ptr for array in data if array is not None]
        rows = np.concatenate([np.asarray([0, *addresses], dtype="int64"), *batches])
        self._rows[: len(rows)] = put(rows)
        self._table[: len(table)] = put(np.asarray(table, dtype_name(self._table)))

    def difference(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        data: list[Array | None],
        rows: Any,
    ) -> str:
        """Run a step on copies, and return how it differs from the eager one; "" if it does not."""
        self._do(params, state, data, [rows])
        xp = namespace(params.flat)
        there = importlib.import_module("cupy").asarray(rows)
        batch = [None if array is None else xp.take(array, there, axis=0) for array in data]
        batch[0] = cast(xp, batch[0], params.flat.dtype)
        return self._graph.difference(step, params, state, [*batch, None], None)

    def run(
        self,
        params: Parameters,
        state: OptimizerState,
        data: list[Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Run the steps."""
        self._do(params, state, data, batches)
        params, state = self._graph.copy_out(params, state, len(batches))
        return params, state, self._values[: len(batches)].copy()

    def _do(
        self,
        params: Parameters,
        state: OptimizerState,
        data: list[Array | None],
        batches: Sequence[Any],
    ) -> None:
        """Run the steps, and leave their results in the graph."""
        self._set_steps(state, data, batches)
        self._graph.fill(params, state)
        self._graph.launch_many(len(batches))


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
