"""Many steps on CuPy in one call: a graph that takes its batches out of the training set by itself.

The addresses of the data and the rows of all batches, and before them the count of steps that are
done, are copied to the device once in a call; so is a table of the numbers that depend on the step, such
as the learning rate. A graph reads its own batch's rows and its numbers there, gathers the batch, does
the step, stores the loss at the place of the step, and counts. So a step costs the host nothing, and
several of them, one behind the other, are one launch.

A graph reads and updates buffers of its own: each call copies parameters and state into them, and out of
them at its end. So other data and other parameters can use it, and a later run of an equal network does,
if the graph is among the last ones.
"""

from __future__ import annotations

import atexit
import importlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace
from anyprop.compiled.gather import gather_kernel
from anyprop.compiled.graph import Graph, check_together, kind_of, reason_of, refusals
from anyprop.compiled.on_jax import is_constant
from anyprop.compiled.program import listed
from anyprop.compiled.trace import TraceError
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step

MOST_KEPT, MOST_BYTES_KEPT = 8, 256 * 2**20


class _Kept(threading.local):
    """The graphs of a thread that later loops may use, the last used at the end."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Any, _GatheringGraph] = OrderedDict()

    def get(self, key: Any) -> _GatheringGraph | None:
        """Return the graph of a key, if there is one."""
        return self._graphs.get(key)

    def put(self, key: Any, graph: _GatheringGraph) -> None:
        """Keep a graph, and as many of the others as there is room for."""
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        while (
            len(self._graphs) > MOST_KEPT
            or sum(kept.nbytes for kept in self._graphs.values()) > MOST_BYTES_KEPT
        ):
            self._graphs.popitem(last=False)

    def clear(self) -> None:
        """Keep none."""
        self._graphs.clear()


kept = _Kept()
# CuPy can give back what they hold as long as it is there itself.
atexit.register(kept.clear)


class GraphLoop:
    """Many steps on CuPy arrays in one call.

    Parameters
    ----------
    step : Step
        What to compile.
    most : int >= 1
        How many steps a call does at most.
    """

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
        """Do a step with each batch.

        Parameters
        ----------
        params, state
            As a step takes them; donated.
        data : mapping
            x, t and sample_weight, with the rows of all batches.
        batches : sequence of numpy.ndarray, shape (N,), int64
            The rows of each batch, all of one size and within the data.

        Returns
        -------
        params, state
            As a step returns them, in the memory of those that were given.
        values : array, shape (K,)
            The loss of each of the K batches, for the caller to keep.

        Raises
        ------
        TraceError
            The steps cannot be captured; parameters and state are as they were.
        """
        if hasattr(self._step.optimizer.learning_rate(state), "dtype"):
            raise TraceError("its learning rate lies in an array, which may change between steps")
        arrays = [data[name] for name in ("x", "t", "sample_weight")]
        try:
            graph = self._graph(params, state, arrays, batches[0])
            graph.make_ready(len(batches))
        except refusals() as error:
            raise TraceError(reason_of(error)) from error
        return graph.run(params, state, arrays, batches)

    def _graph(
        self, params: Parameters, state: OptimizerState, arrays: list[Array | None], rows: Any
    ) -> _GatheringGraph:
        """Return the graph for what is given; make it, and compare its first step, if there is none."""
        graphs: dict[Any, _GatheringGraph] = self._of_thread.__dict__
        kinds = [_kind(array) for array in (params.flat, *arrays)]
        key = (params.layout, state.decay_mask is None, len(rows), *kinds)
        graph = graphs.get(key)
        if graph is not None:
            return graph
        key_of_all = (self._step, self._most, *key) if self._keeps else None
        graph = kept.get(key_of_all)
        if graph is None:
            # It gets copies, for what is given should be as it was if it is not used.
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


def _kind(array: Array | None) -> Any:
    """Return what a graph depends on of an array that it takes rows of."""
    if array is None:
        return None
    of_type, shape, *place = kind_of(array)
    return of_type, shape[1:], array.strides, *place


class _GatheringGraph:
    """The graph of one size of batches, and where it finds their rows.

    Attributes
    ----------
    nbytes : int
        How much memory it holds, in bytes.
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
        check_together(params, data)
        xp, n = namespace(params.flat), len(rows)
        given = [array for array in data if array is not None]
        self._rows = xp.empty(1 + len(given) + most * n, dtype="int64")
        self._values = xp.empty(most, dtype=params.flat.dtype)
        self._optimizer, self._count = step.optimizer, 1 + len(step.optimizer.scalars(1, 1.0))
        self._table = xp.empty(most * self._count, dtype=params.flat.dtype)
        places = [
            array if array is None else xp.empty((n, *array.shape[1:]), dtype=array.dtype)
            for array in data
        ]
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
        """Put what takes the batch before a step, and what keeps its loss after it."""
        kernel = importlib.import_module("cupy").ElementwiseKernel(
            f"{value.dtype} value",
            f"raw {value.dtype} values, raw int64 rows",
            "values[rows[0]] = value; rows[0] += 1;",
            "anyprop_store",
        )
        store = partial(kernel, value, self._values, self._rows)
        kernel, size = gather_kernel(data, places, numbers)
        gather = partial(kernel, self._rows, self._table, *places, numbers, size=size)
        in_order: list[Callable[[], Any]] = [gather, launches, store]

        def work() -> None:
            for launch in in_order:
                launch()

        return work

    def _set_steps(
        self, state: OptimizerState, data: list[Array | None], batches: Sequence[Any]
    ) -> None:
        """Copy what the steps depend on to where the graph finds it, the first step next."""
        table = []
        for k in range(len(batches)):
            table += listed(self._optimizer.numbers(state._replace(step=state.step + k)))
        # CuPy copies from pinned memory, which it keeps until it has.
        put = importlib.import_module("cupy").asarray
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
        """Do a step on copies, and say how it differs from the eager one; "" if it does not."""
        self._do(params, state, data, [rows])
        xp = namespace(params.flat)
        there = importlib.import_module("cupy").asarray(rows)
        batch = [None if array is None else xp.take(array, there, axis=0) for array in data]
        return self._graph.difference(step, params, state, [*batch, None], None)

    def _do(
        self,
        params: Parameters,
        state: OptimizerState,
        data: list[Array | None],
        batches: Sequence[Any],
    ) -> None:
        """Do the steps, and leave what they make in the graph."""
        self._set_steps(state, data, batches)
        self._graph.fill(params, state)
        self._graph.launch_many(len(batches))

    def run(
        self,
        params: Parameters,
        state: OptimizerState,
        data: list[Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, Array]:
        """Do the steps."""
        self._do(params, state, data, batches)
        params, state = self._graph.copy_out(params, state, len(batches))
        return params, state, self._values[: len(batches)].copy()
