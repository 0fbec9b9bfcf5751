"""Many steps on CuPy in one call: a graph that takes its batch out of the training set by itself.

The rows of all batches, and before them the count of steps that are done, are copied to the device once
in a call; so is a table of the numbers that depend on the step, such as the learning rate. A graph reads
its own batch's rows and its numbers there, gathers the batch, does the step, stores the loss at the
place of the step, and counts. So a step costs the host one launch.
"""

from __future__ import annotations

import importlib
import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from anyprop._typing import Array
from anyprop.backend import dtype_name, namespace
from anyprop.compiled.graph import Graph, check_together, kind_of, reason_of, refusals
from anyprop.compiled.recorded_step import numbers_of_step
from anyprop.compiled.recording import TraceError
from anyprop.optimizers.base import OptimizerState
from anyprop.parameters import Parameters
from anyprop.training.step import Step


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
        self._step, self._most = step, most
        self._of_thread = threading.local()

    def __call__(
        self,
        params: Parameters,
        state: OptimizerState,
        data: Mapping[str, Array | None],
        batches: Sequence[Any],
    ) -> tuple[Parameters, OptimizerState, list[Array]]:
        """Do a step with each batch.

        Parameters
        ----------
        params, state
            As a step takes them; donated.
        data : mapping
            x, t and sample_weight, with the rows of all batches; a graph is made for these arrays.
        batches : sequence of numpy.ndarray, shape (N,), int64
            The rows of each batch, all of one size and within the data.

        Returns
        -------
        params, state
            As a step returns them.
        values : list of array, shape ()
            The loss of each batch.

        Raises
        ------
        TraceError
            The step cannot be captured.
        """
        graphs: dict[Any, _GatheringGraph] = self._of_thread.__dict__
        arrays = [data[name] for name in ("x", "t", "sample_weight")]
        places = [None if a is None else (kind_of(a), a.data.ptr, a.strides) for a in arrays]
        key = (params.layout, params.flat.dtype, len(batches[0]), *places)
        if hasattr(self._step.opt.learning_rate(state), "dtype"):
            raise TraceError("its learning rate lies in an array, which may change between steps")
        if key not in graphs:
            try:
                # It gets copies, for what is given should be as it was if the steps are done one by one.
                graphs[key] = _GatheringGraph(
                    *(self._step, params.copy(), state.copy(), arrays, batches[0], self._most)
                )
                far = graphs[key].difference(self._step, params, state, data, batches[0])
            except refusals() as error:
                graphs.pop(key, None)
                raise TraceError(reason_of(error)) from error
            if far:
                del graphs[key]
                text = f"the steps are done one by one, since {far}."
                warnings.warn(text, RuntimeWarning, stacklevel=2)
                raise TraceError(far)
        return graphs[key].run(params, state, batches)


class _GatheringGraph:
    """The graph of one size of batches, and where it finds their rows."""

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
        self._rows = xp.empty(1 + most * n, dtype="int64")
        self._values = xp.empty(most, dtype=params.flat.dtype)
        places = [
            array if array is None else xp.empty((n, *array.shape[1:]), dtype=array.dtype)
            for array in data
        ]
        self._opt, self._count = step.opt, 1 + len(step.opt.scalars(1, 1.0))
        self._table = xp.empty(most * self._count, dtype=params.flat.dtype)
        self._data = [array for array in data if array is not None]
        self._places = [place for place in places if place is not None]
        self._set_steps(state, [rows])  # the capture does a step, too
        noise = None
        self._graph = Graph(step, params, state, [*places, noise], noise, self._around)

    def _around(
        self, launches: Callable[[], None], value: Array, numbers: Array
    ) -> Callable[[], None]:
        """Put what takes the batch before a step, and what keeps its loss after it."""
        kernel = _elementwise(
            f"{value.dtype} value",
            f"raw {value.dtype} values, raw int64 rows",
            "values[rows[0]] = value; rows[0] += 1;",
            "anyprop_store",
        )
        store = partial(kernel, value, self._values, self._rows)
        n = self._places[0].shape[0]
        kernel, size = _gather(self._data, n, numbers)
        arrays = [*self._data, self._rows, self._table, *self._places, numbers]
        gather = partial(kernel, *arrays, size=size)
        in_order: list[Callable[[], Any]] = [gather, launches, store]

        def work() -> None:
            for launch in in_order:
                launch()

        return work

    def _set_steps(self, state: OptimizerState, batches: Sequence[Any]) -> None:
        """Copy the rows and the numbers of steps to where the graph finds them, the first next."""
        table = []
        for k in range(len(batches)):
            of_step = state._replace(step=state.step + k)
            lr = self._opt.learning_rate(of_step)
            table += numbers_of_step(self._opt, of_step, lr, self._table.dtype)
        # CuPy copies from pinned memory, which it keeps until it has.
        put = importlib.import_module("cupy").asarray
        rows = np.concatenate([[0], *batches])
        self._rows[: len(rows)] = put(rows)
        self._table[: len(table)] = put(np.asarray(table, dtype_name(self._table)))

    def difference(
        self,
        step: Step,
        params: Parameters,
        state: OptimizerState,
        data: Mapping[str, Array | None],
        rows: Any,
    ) -> str:
        """Do a step on copies, and say how it differs from the eager one; "" if it does not."""
        self.run(params, state, [rows])
        xp = namespace(params.flat)
        there = importlib.import_module("cupy").asarray(rows)
        batch = [
            None if data[name] is None else xp.take(data[name], there, axis=0)
            for name in ("x", "t", "sample_weight")
        ]
        return self._graph.difference(step, params, state, [*batch, None], None)

    def run(
        self, params: Parameters, state: OptimizerState, batches: Sequence[Any]
    ) -> tuple[Parameters, OptimizerState, list[Array]]:
        """Do the steps."""
        self._set_steps(state, batches)
        self._graph.fill(params, state)
        for _ in batches:
            state = self._graph.launch_with_numbers(state)
        values = self._values.copy()
        return self._graph.params, state, [values[k, ...] for k in range(len(batches))]


def _gather(data: list[Array], n: int, numbers: Array) -> tuple[Any, int]:
    """Make the kernel that takes the n rows of the present batch and its numbers; and its size."""
    widths = [math.prod(array.shape[1:]) for array in data]
    width, count = sum(widths), numbers.size
    lines = [
        f"if (i < {n * width}) {{",
        f"const long long row = i / {width}, source = rows[1 + rows[0] * {n} + row];",
        f"long long column = i % {width};",
    ]
    for k, own in enumerate(widths):
        store = f"y{k}[row * {own} + column] = x{k}[source * {own} + column];"
        lines += [f"if (column >= 0 && column < {own}) {store}", f"column -= {own};"]
    lines += [
        "} else {",
        f"const long long k = i - {n * width};",
        f"numbers[k] = table[rows[0] * {count} + k];",
        "}",
    ]
    ins = [f"raw {array.dtype} x{k}" for k, array in enumerate(data)]
    outs = [f"raw {array.dtype} y{k}" for k, array in enumerate(data)]
    kernel = _elementwise(
        ", ".join([*ins, "raw int64 rows", f"raw {numbers.dtype} table"]),
        ", ".join([*outs, f"raw {numbers.dtype} numbers"]),
        "\n".join(lines),
        "anyprop_gather",
    )
    return kernel, n * width + count


def _elementwise(*args: str) -> Any:
    return importlib.import_module("cupy").ElementwiseKernel(*args)
